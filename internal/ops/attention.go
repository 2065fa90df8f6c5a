package ops

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Attention is softmax(scale q k^T + bias) v in each head (Vaswani et al. 2017). With Causal set a position sees
// itself and those before it; with Lengths an image has as many keys, the first ones. A query whose keys are all
// hidden, by the length or by a bias of -Inf, gets zeros, as of torch's scaled_dot_product_attention.
//
//	q       [B ... Heads*D]
//	k, v    [B ... KVHeads*D]    each of the KVHeads serves Heads/KVHeads neighbouring heads of q
//	bias    [B Heads Sq Skv]     if Bias; B may be left out, and B, Heads and Sq be 1 for what is the same for all
//	lengths [B]                  if Lengths, int32, 0 to Skv
//	result  [B ... Heads*D]      like q
type Attention struct {
	op.Plain
	Heads   int
	KVHeads int // 0: heads
	Causal  bool
	Scale   float32 // 0: 1/sqrt(D)
	Bias    bool
	Lengths bool
}

func (k Attention) String() string {
	return fmt.Sprintf("Attention{heads=%d kvHeads=%d causal=%t scale=%g bias=%t lengths=%t}",
		k.Heads, k.KVHeads, k.Causal, k.Scale, k.Bias, k.Lengths)
}
func (k Attention) Arity() int { return 3 + op.Count(k.Bias, k.Lengths) }

func (k Attention) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if k.Heads < 1 || k.KVHeads < 0 || k.Heads%k.pairs() != 0 || !(k.Scale >= 0) || math.IsInf(float64(k.Scale), 1) {
		return nil, fmt.Errorf("%v: want heads, of which kvHeads is a divisor, and a scale above 0, or 0 for 1/sqrt(D)", k)
	}
	q, kk := in[0], in[1]
	if len(q) < 3 || op.Last(q)%k.Heads != 0 {
		return nil, op.Misfit(k, in, "q [B ... %d*D]", k.Heads)
	}
	b, c := q[0], op.Last(q)/k.Heads*k.pairs()
	if len(kk) < 3 || kk[0] != b || op.Last(kk) != c || !kk.Eq(in[2]) {
		return nil, op.Misfit(k, in, "k and v [%d ... %d]", b, c)
	}
	if k.Causal && op.Rows(q) != op.Rows(kk) {
		return nil, op.Misfit(k, in, "k and v [%d ... %d] of %d positions, as q has", b, c, op.Rows(q)/b)
	}
	sq, skv := op.Rows(q)/b, op.Rows(kk)/b
	if k.Bias && !k.takes(in[k.biasAt()], b, sq, skv) {
		return nil, op.Misfit(k, in, "bias [%d %d %d %d], the first left out or any of the first three 1",
			b, k.Heads, sq, skv)
	}
	if k.Lengths && !in[len(in)-1].Eq(tensor.Shape{b}) {
		return nil, op.Misfit(k, in, "lengths [%d]", b)
	}
	return op.SameShape(in)
}

// takes reports whether a bias is of a shape that can be added to all scores.
func (k Attention) takes(bias tensor.Shape, b, sq, skv int) bool {
	full := tensor.Shape{b, k.Heads, sq, skv}[max(0, 4-len(bias)):]
	if len(bias) != 3 && len(bias) != 4 || op.Last(bias) != skv {
		return false
	}
	for i, n := range bias {
		if n != 1 && n != full[i] {
			return false
		}
	}
	return true
}

// pairs is the number of heads of k and v.
func (k Attention) pairs() int {
	if k.KVHeads == 0 {
		return k.Heads
	}
	return k.KVHeads
}

// biasAt is the place of the bias among the arguments; without one it is that of another argument.
func (k Attention) biasAt() int { return 2 + op.Count(k.Bias) }

// geometry is of the shapes of q, k and bias, if there is one. It has no data.
func (k Attention) geometry(q, kk, bias tensor.Shape) cpu.AttentionShape {
	s := cpu.AttentionShape{B: q[0], Sq: op.Rows(q) / q[0], Skv: op.Rows(kk) / q[0], Heads: k.Heads,
		D: op.Last(q) / k.Heads, KVHeads: k.pairs(), Scale: k.Scale, Causal: k.Causal}
	if k.Scale == 0 {
		s.Scale = float32(1 / math.Sqrt(float64(s.D)))
	}
	if k.Bias {
		s.Bias.Image, s.Bias.Head, s.Bias.Row = biasSteps(bias)
	}
	return s
}

// biasSteps says how far numbers of a bias are apart, from image to image, head to head and query to query: not at all
// where one serves all.
func biasSteps(s tensor.Shape) (image, head, row int) {
	n := len(s)
	steps := [3]int{}
	size := s[n-1]
	for i := range n - 1 {
		if d := s[n-2-i]; d > 1 {
			steps[i], size = size, size*d
		}
	}
	return steps[2], steps[1], steps[0]
}

func (k Attention) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	s := k.geometry(in[0].Shape, in[1].Shape, in[k.biasAt()].Shape)
	q, key, val := in[0].F32(), in[1].F32(), in[2].F32()
	c, ckv := s.Heads*s.D, s.KVHeads*s.D
	for b := range s.B {
		for h := range s.Heads {
			for i := range s.Sq {
				n := s.Skv
				if k.Lengths {
					if n = int(in[len(in)-1].I32()[b]); n < 0 || n > s.Skv {
						panic(fmt.Sprintf("%v: length %d of image %d is not from 0 to %d", k, n, b, s.Skv))
					}
				}
				if s.Causal {
					n = min(n, i+1)
				}
				at := (b*s.Sq+i)*c + h*s.D
				from := b*s.Skv*ckv + h/(s.Heads/s.KVHeads)*s.D
				p := make([]float64, n)
				for j := range p {
					for d := range s.D {
						p[j] += float64(q[at+d]) * float64(key[from+j*ckv+d])
					}
					p[j] *= float64(s.Scale)
					if k.Bias {
						p[j] += float64(in[k.biasAt()].F32()[b*s.Bias.Image+h*s.Bias.Head+i*s.Bias.Row+j])
					}
				}
				if k.hidden(p) {
					continue // out is zero
				}
				softmax(p)
				for d := range s.D {
					var sum float64
					for j := range p {
						sum += p[j] * float64(val[from+j*ckv+d])
					}
					out[at+d] = float32(sum)
				}
			}
		}
	}
}

// hidden reports that a query sees none of its keys.
func (k Attention) hidden(scores []float64) bool {
	for _, s := range scores {
		if !math.IsInf(s, -1) {
			return false
		}
	}
	return k.Bias || k.Lengths
}

func softmax(p []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range p {
		top = math.Max(top, v)
	}
	for i, v := range p {
		p[i] = math.Exp(v - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
}

func (k Attention) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s := k.geometry(in[0].Shape, in[1].Shape, in[k.biasAt()].Shape)
	if k.Bias {
		s.Bias.Data = in[k.biasAt()].F32()
	}
	if k.Lengths {
		s.Lengths = in[len(in)-1].I32()
	}
	p.Attention(out.F32(), in[0].F32(), in[1].F32(), in[2].F32(), s)
}

// Below: a length is of the keys there are.
func (k Attention) Below(i int, in []tensor.Shape) int {
	if k.Lengths && i == k.Arity()-1 {
		return op.Rows(in[1])/in[1][0] + 1
	}
	return 0
}

func (k Attention) Device(dev device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	s := k.geometry(in[0].Shape, in[1].Shape, in[k.biasAt()].Shape)
	p := attentionParams{q: in[0].Ptr, k: in[1].Ptr, v: in[2].Ptr, out: out.Ptr, sq: int32(s.Sq), skv: int32(s.Skv),
		heads: int32(s.Heads), d: int32(s.D), causal: int32(op.Count(k.Causal)), scale: s.Scale}
	if !k.Bias && !k.Lengths && s.KVHeads == s.Heads {
		return attend(dev, plainAttention, &p, &p, s.B, out)
	}
	g := &generalAttentionParams{attentionParams: p, kvHeads: int32(s.KVHeads),
		biasImage: int64(s.Bias.Image), biasHead: int64(s.Bias.Head), biasRow: int64(s.Bias.Row)}
	if k.Bias {
		g.bias = in[k.biasAt()].Ptr
	}
	if k.Lengths {
		g.lengths = in[len(in)-1].Ptr
	}
	return attend(dev, generalAttention, g, &g.attentionParams, s.B, out)
}

func (k Attention) FLOPs(_ tensor.Shape, in []tensor.Shape) int64 {
	s := k.geometry(in[0], in[1], in[k.biasAt()])
	return 4 * int64(s.B*s.Heads*s.D) * int64(s.Sq) * int64(s.Skv)
}
