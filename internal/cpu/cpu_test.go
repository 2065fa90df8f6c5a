package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// Every kernel here is compared with its definition, written out in float64, for each twin of the inner loops
// this machine can run and for several numbers of threads, which must not change one bit.

func twins() []kernels {
	all := []kernels{portableKernels()}
	return append(all, fasterKernels()...)
}

// onTwins runs body with a pool of each twin and number of threads; it returns the result.
func onTwins(t *testing.T, body func(t *testing.T, p *Pool) []float32) {
	for _, k := range twins() {
		t.Run(k.name, func(t *testing.T) {
			var first []float32
			for _, threads := range []int{1, 2, 5} {
				p := NewPool(threads)
				p.k = k
				got := body(t, p)
				p.Close()
				if first == nil {
					first = got
				}
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(first[i]) {
						t.Fatalf("%d threads: element %d is %v, with one thread %v", threads, i, got[i], first[i])
					}
				}
			}
		})
	}
}

func random(rng *rand.Rand, n int, std float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64() * std)
	}
	return x
}

func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	var scale float64
	for _, w := range want {
		if !math.IsNaN(w) && !math.IsInf(w, 0) {
			scale = max(scale, math.Abs(w))
		}
	}
	for i, w := range want {
		g := float64(got[i])
		if math.IsNaN(w) && math.IsNaN(g) || g == w {
			continue
		}
		if d := math.Abs(g - w); !(d <= tol*max(scale, 1e-20)) {
			t.Fatalf("%s: element %d is %v, want %v (off by %.2g of the largest, %.2g allowed)", what, i, g, w, d/scale, tol)
		}
	}
}

// stored converts to a stored type and returns the bytes and the numbers they stand for.
func stored(x []float32, t dtype.Type) ([]byte, []float32) {
	b := make([]byte, 0, len(x)*t.Size())
	for _, v := range x {
		switch t {
		case dtype.F16:
			b = binary.LittleEndian.AppendUint16(b, dtype.F32ToF16(v))
		case dtype.BF16:
			b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(v)>>16))
		default:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	y := make([]float32, len(x))
	dtype.ToF32(y, b, t)
	return b, y
}

func act(a Activation, x float64) float64 {
	switch a {
	case SiLU:
		return silu(x)
	case GELU:
		return gelu(x)
	case QuickGELU:
		return quickGELU(x)
	case GELUTanh:
		return x / 2 * (1 + math.Tanh(0.7978845608028654*(x+0.044715*math.Pow(x, 3))))
	case ReLU:
		if x < 0 {
			return 0
		}
	case Tanh:
		return math.Tanh(x)
	}
	return x
}

// epilogue is the definition of Epilogue on sums [m n].
func epilogue(sums []float64, m, n int, ep Epilogue) []float64 {
	cols := ep.cols(n)
	out := make([]float64, m*cols)
	for r := range m {
		v := sums[r*n : (r+1)*n]
		for j := range v {
			if ep.Bias != nil {
				v[j] += float64(ep.Bias[j])
			}
			if ep.Channels != nil {
				v[j] += float64(ep.Channels[r/ep.ChannelsStride*n+j])
			}
		}
		for j := range cols {
			y := act(ep.Act, v[j])
			if ep.Act == GEGLU {
				y = v[j] * gelu(v[cols+j])
			}
			if ep.Residual != nil {
				y += float64(ep.Residual[r*cols+j])
			}
			out[r*cols+j] = y
		}
	}
	return out
}

func TestLinear(t *testing.T) {
	types := []dtype.Type{dtype.F32, dtype.F16, dtype.BF16}
	for i, c := range []struct {
		m, k, n int
		ep      Epilogue
	}{
		{1, 1, 1, Epilogue{}}, {1, 7, 16, Epilogue{}}, {2, 320, 1280, Epilogue{Act: SiLU}}, {6, 64, 17, Epilogue{}},
		{7, 385, 33, Epilogue{Act: GELU}}, {13, 1000, 100, Epilogue{Act: QuickGELU}}, {200, 771, 130, Epilogue{}},
		{77, 96, 288, Epilogue{}}, {400, 48, 4, Epilogue{}}, {50, 40, 136, Epilogue{Act: GEGLU}},
		{20, 33, 70, Epilogue{Act: GEGLU}}, {24, 20, 64, Epilogue{Act: GEGLU}}, {0, 5, 5, Epilogue{}}, {5, 0, 5, Epilogue{}},
	} {
		for _, typ := range types {
			for _, extras := range []bool{false, true} {
				name := fmt.Sprintf("%dx%dx%d %s %s extras=%v", c.m, c.k, c.n, typ, c.ep.Act, extras)
				t.Run(name, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(1, uint64(i)))
					a := random(rng, c.m*c.k, 1)
					src, w := stored(random(rng, c.n*c.k, 1), typ)
					ep := c.ep
					if extras {
						ep.Bias = random(rng, c.n, 3)
						ep.Residual = random(rng, c.m*ep.cols(c.n), 3)
						if c.m%2 == 0 && c.m > 0 {
							ep.ChannelsStride = c.m / 2
							ep.Channels = random(rng, 2*c.n, 3)
						}
					}
					sums := make([]float64, c.m*c.n)
					for r := range c.m {
						for j := range c.n {
							for x := range c.k {
								sums[r*c.n+j] += float64(a[r*c.k+x]) * float64(w[j*c.k+x])
							}
						}
					}
					want := epilogue(sums, c.m, c.n, ep)
					packed := make([]byte, PanelBytes(c.n, c.k, typ))
					PackLinear(packed, src, typ, c.n, c.k)
					onTwins(t, func(t *testing.T, p *Pool) []float32 {
						got := make([]float32, len(want))
						p.Linear(got, a, c.m, Panels{Data: packed, DType: typ, N: c.n, K: c.k}, ep)
						near(t, name, got, want, 2e-6)
						return got
					})
				})
			}
		}
	}
}

func TestConv(t *testing.T) {
	for i, s := range []ConvShape{
		{B: 1, H: 1, W: 1, Cin: 1, Cout: 1, KH: 1, KW: 1},
		{B: 2, H: 9, W: 7, Cin: 5, Cout: 20, KH: 3, KW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1},
		{B: 1, H: 16, W: 16, Cin: 64, Cout: 70, KH: 3, KW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1},
		{B: 2, H: 8, W: 8, Cin: 33, Cout: 16, KH: 3, KW: 3, Stride: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1},
		{B: 1, H: 8, W: 6, Cin: 12, Cout: 48, KH: 3, KW: 3, Stride: 2, PadBottom: 1, PadRight: 1},
		{B: 1, H: 5, W: 6, Cin: 450, Cout: 32, KH: 3, KW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1},
		{B: 2, H: 5, W: 4, Cin: 20, Cout: 19, KH: 3, KW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Upsample: 2},
		{B: 1, H: 20, W: 20, Cin: 8, Cout: 4, KH: 1, KW: 1},
	} {
		for _, typ := range []dtype.Type{dtype.F32, dtype.F16} {
			t.Run(fmt.Sprintf("%+v %s", s, typ), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(2, uint64(i)))
				in := random(rng, s.B*s.H*s.W*s.Cin, 1)
				src, w := stored(random(rng, s.Cout*s.Cin*s.KH*s.KW, 1), typ)
				h, wd := s.Out()
				m := s.B * h * wd
				ep := Epilogue{Bias: random(rng, s.Cout, 3), Act: SiLU, Channels: random(rng, s.B*s.Cout, 3), ChannelsStride: h * wd, Residual: random(rng, m*s.Cout, 3)}
				sums := make([]float64, m*s.Cout)
				for r := range m {
					b, y, x := r/(h*wd), r/wd%h, r%wd
					for o := range s.Cout {
						for ky := range s.KH {
							for kx := range s.KW {
								iy, ix := y*s.stride()+ky-s.PadTop, x*s.stride()+kx-s.PadLeft
								if iy < 0 || ix < 0 || iy >= s.H*s.up() || ix >= s.W*s.up() {
									continue
								}
								at := ((b*s.H+iy/s.up())*s.W + ix/s.up()) * s.Cin
								for c := range s.Cin {
									sums[r*s.Cout+o] += float64(in[at+c]) * float64(w[((o*s.Cin+c)*s.KH+ky)*s.KW+kx])
								}
							}
						}
					}
				}
				want := epilogue(sums, m, s.Cout, ep)
				packed := make([]byte, PanelBytes(s.Cout, s.Cin*s.KH*s.KW, typ))
				PackConv(packed, src, typ, s.Cout, s.Cin, s.KH, s.KW)
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					got := make([]float32, len(want))
					p.Conv(got, in, s, Panels{Data: packed, DType: typ, N: s.Cout, K: s.KH * s.KW * s.Cin}, ep)
					near(t, "conv", got, want, 2e-6)
					return got
				})
			})
		}
	}
}

func TestAttention(t *testing.T) {
	for i, s := range []AttentionShape{
		{B: 1, Sq: 1, Skv: 1, Heads: 1, D: 1}, {B: 2, Sq: 7, Skv: 77, Heads: 3, D: 40}, {B: 1, Sq: 130, Skv: 600, Heads: 2, D: 64},
		{B: 1, Sq: 400, Skv: 400, Heads: 1, D: 8}, {B: 2, Sq: 9, Skv: 64, Heads: 3, D: 24}, {B: 2, Sq: 33, Skv: 33, Heads: 2, D: 20, Causal: true}, {B: 1, Sq: 20, Skv: 300, Heads: 1, D: 160},
		{B: 1, Sq: 12, Skv: 100, Heads: 1, D: 512}, {B: 1, Sq: 300, Skv: 300, Heads: 1, D: 16, Causal: true},
	} {
		// With a standard deviation of 20 the scores are hundreds apart: the running maximum must hold.
		for _, std := range []float64{1, 20} {
			t.Run(fmt.Sprintf("%+v std %v", s, std), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, uint64(i)))
				s.Scale = float32(1 / math.Sqrt(float64(s.D)))
				w := s.Heads * s.D
				q, k, v := random(rng, s.B*s.Sq*w, std), random(rng, s.B*s.Skv*w, std), random(rng, s.B*s.Skv*w, 1)
				want := attentionDefinition(q, k, v, s)
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					got := make([]float32, len(q))
					p.Attention(got, q, k, v, s)
					near(t, "attention", got, want, 4e-6*max(1, std*std/8)) // scores grow with std*std, and their rounding
					return got
				})
			})
		}
	}
}

func attentionDefinition(q, k, v []float32, s AttentionShape) []float64 {
	out := make([]float64, len(q))
	w, wk := s.Heads*s.D, s.kvHeads()*s.D
	for row := range s.B * s.Sq * s.Heads {
		b, i, h := row/(s.Sq*s.Heads), row/s.Heads%s.Sq, row%s.Heads
		n := s.keys(b)
		if s.Causal {
			n = min(n, i+1)
		}
		at, from := (b*s.Sq+i)*w+h*s.D, b*s.Skv*wk+h/(s.Heads/s.kvHeads())*s.D
		scores, top, total := make([]float64, n), math.Inf(-1), 0.0
		for j := range scores {
			for d := range s.D {
				scores[j] += float64(q[at+d]) * float64(k[from+j*wk+d])
			}
			scores[j] *= float64(s.Scale)
			if s.Bias.Data != nil {
				scores[j] += float64(s.Bias.Data[b*s.Bias.Image+h*s.Bias.Head+i*s.Bias.Row+j])
			}
			top = max(top, scores[j])
		}
		if math.IsInf(top, -1) {
			continue
		}
		for j := range scores {
			scores[j] = math.Exp(scores[j] - top)
			total += scores[j]
		}
		for d := range s.D {
			for j := range scores {
				out[at+d] += scores[j] / total * float64(v[from+j*wk+d])
			}
		}
	}
	return out
}
