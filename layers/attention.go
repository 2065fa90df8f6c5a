package layers

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// attention is softmax(q k^T / sqrt(D)) v in each head (Vaswani et al. 2017); with causal set a position sees
// itself and those before it.
//
//	q      [B ... Heads*D]
//	k, v   [B ... Heads*D]
//	result [B ... Heads*D]  like q
type attention struct {
	plain
	heads  int
	causal bool
}

func (k attention) String() string {
	return fmt.Sprintf("Attention{heads=%d causal=%t}", k.heads, k.causal)
}
func (k attention) arity() int { return 3 }

func (k attention) infer(in []tensor.Shape) (tensor.Shape, error) {
	q, kk := in[0], in[1]
	if len(q) < 3 || len(kk) < 3 || q[0] != kk[0] || last(q) != last(kk) || !kk.Eq(in[2]) ||
		k.heads < 1 || last(q)%k.heads != 0 || k.causal && rows(q) != rows(kk) {
		return nil, shapeError(k, in)
	}
	return sameShape(in)
}

func (k attention) geometry(q, kk tensor.Shape) cpu.AttentionShape {
	d := last(q) / k.heads
	return cpu.AttentionShape{B: q[0], Sq: rows(q) / q[0], Skv: rows(kk) / q[0], Heads: k.heads, D: d,
		Scale: float32(1 / math.Sqrt(float64(d))), Causal: k.causal}
}

func (k attention) define(out []float32, _ tensor.Shape, in []program.Arg) {
	s := k.geometry(in[0].Shape, in[1].Shape)
	q, key, val := in[0].F32(), in[1].F32(), in[2].F32()
	c := s.Heads * s.D
	for b := range s.B {
		for h := range s.Heads {
			for i := range s.Sq {
				n := s.Skv
				if s.Causal {
					n = i + 1
				}
				at := (b*s.Sq+i)*c + h*s.D
				p := make([]float64, n)
				for j := range p {
					for d := range s.D {
						p[j] += float64(q[at+d]) * float64(key[(b*s.Skv+j)*c+h*s.D+d])
					}
					p[j] *= float64(s.Scale)
				}
				softmax(p)
				for d := range s.D {
					var sum float64
					for j := range p {
						sum += p[j] * float64(val[(b*s.Skv+j)*c+h*s.D+d])
					}
					out[at+d] = float32(sum)
				}
			}
		}
	}
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

func (k attention) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Attention(out.F32(), in[0].F32(), in[1].F32(), in[2].F32(), k.geometry(in[0].Shape, in[1].Shape))
}

func (k attention) Device(dev device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	s := k.geometry(in[0].Shape, in[1].Shape)
	return attend(dev, &attentionParams{q: in[0].Ptr, k: in[1].Ptr, v: in[2].Ptr, out: out.Ptr, sq: int32(s.Sq), skv: int32(s.Skv),
		heads: int32(s.Heads), d: int32(s.D), causal: int32(b2i(k.causal)), scale: s.Scale}, s.B, out)
}

func (k attention) FLOPs(_ tensor.Shape, in []tensor.Shape) int64 {
	s := k.geometry(in[0], in[1])
	return 4 * int64(s.B*s.Heads*s.D) * int64(s.Sq) * int64(s.Skv)
}
