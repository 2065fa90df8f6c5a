package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// seen calls see for all that output pixel m sees: the pixel of the input, and the tap.
func (s Window) seen(m int, see func(pixel, tap int)) {
	h, w := s.Out()
	b, oy, ox := m/(h*w), m/w%h, m%w
	for ky := range s.KH {
		for kx := range s.KW {
			y, x := oy*s.StrideH+ky*s.DilationH-s.PadTop, ox*s.StrideW+kx*s.DilationW-s.PadLeft
			if y >= 0 && y < s.H && x >= 0 && x < s.W {
				see((b*s.H+y)*s.W+x, ky*s.KW+kx)
			}
		}
	}
}

func TestConvWindow(t *testing.T) {
	for _, c := range []struct {
		Window
		n, groups int
	}{
		{Window{2, 7, 6, 5, 3, 2, 1, 2, 1, 1, 1, 0, 1, 1}, 18, 1},
		{Window{1, 9, 8, 20, 3, 3, 1, 1, 2, 3, 2, 3, 2, 3}, 7, 1},
		{Window{1, 5, 4, 500, 2, 2, 1, 1, 1, 2, 0, 0, 0, 0}, 5, 1},
		{Window{2, 19, 21, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1}, 32, 2},
		{Window{1, 7, 9, 15, 3, 3, 2, 2, 1, 1, 0, 0, 0, 0}, 30, 5},
		{Window{1, 3, 4, 1000, 1, 2, 1, 1, 1, 1, 0, 0, 0, 0}, 20, 2},
		{Window{1, 4, 4, 6, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0}, 12, 6},
		{Window{3, 11, 13, 37, 5, 3, 1, 1, 1, 1, 2, 1, 2, 1}, 37, 37},
		{Window{1, 1, 70, 16, 1, 7, 1, 3, 1, 2, 0, 6, 0, 0}, 16, 16},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			deep, taps := c.C/c.groups, c.KH*c.KW
			in, bias := random(rng, c.B*c.H*c.W*c.C, 1), random(rng, c.n, 1)
			for _, typ := range []dtype.Type{dtype.F32, dtype.F16} {
				raw, w := stored(random(rng, c.n*deep*taps, 1), typ)
				panels := Panels{Data: make([]byte, PanelBytes(c.n, deep*taps, typ)), DType: typ, N: c.n, K: deep * taps}
				PackConv(panels.Data, raw, typ, c.n, deep, c.KH, c.KW)
				h, wd := c.Out()
				want := make([]float64, c.B*h*wd*c.n)
				for i := range want {
					co := i % c.n
					want[i] = float64(bias[co])
					c.seen(i/c.n, func(pixel, tap int) {
						for d := range deep {
							want[i] += float64(in[pixel*c.C+co/(c.n/c.groups)*deep+d]) * float64(w[(co*deep+d)*taps+tap])
						}
					})
				}
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					out := random(rng, len(want), 1)
					p.ConvWindow(out, in, c.Window, panels, c.groups, bias)
					near(t, "conv", out, want, 2e-6)
					return out
				})
			}
		})
	}
}

func TestPools(t *testing.T) {
	for _, s := range []Window{
		{2, 7, 6, 5, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1},
		{1, 5, 6, 40, 2, 2, 1, 1, 3, 3, 1, 1, 1, 1},
		{1, 1, 90, 300, 1, 4, 1, 2, 1, 1, 0, 2, 0, 1},
		{1, 64, 64, 70, 64, 64, 1, 1, 1, 1, 0, 0, 0, 0},
	} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			in := random(rng, s.B*s.H*s.W*s.C, 1)
			h, w := s.Out()
			mean, most := make([]float64, s.B*h*w*s.C), make([]float64, s.B*h*w*s.C)
			for i := range mean {
				most[i] = math.Inf(-1)
				s.seen(i/s.C, func(pixel, _ int) {
					mean[i] += float64(in[pixel*s.C+i%s.C]) / float64(s.KH*s.KW)
					most[i] = max(most[i], float64(in[pixel*s.C+i%s.C]))
				})
			}
			onTwins(t, func(t *testing.T, p *Pool) []float32 {
				a, b := random(rng, len(mean), 1), random(rng, len(mean), 1)
				p.AveragePool(a, in, s)
				near(t, "average", a, mean, 2e-5)
				p.MaxPool(b, in, s)
				near(t, "max", b, most, 0)
				if h == 1 && w == 1 {
					c := random(rng, len(mean), 1)
					p.AdaptiveAverage(c, in, s.B, s.H, s.W, s.C, 1, 1)
					near(t, "global average", c, mean, 2e-6)
				}
				return append(a, b...)
			})
		})
	}
}

// Masks of every kind over several blocks of keys and of queries, with rows that see nothing at all.
func TestAttentionMasks(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		name string
		s    AttentionShape
	}{
		{"shared heads", AttentionShape{B: 2, Sq: 50, Skv: 300, Heads: 6, KVHeads: 2, D: 24}},
		{"a bias of positions", AttentionShape{B: 2, Sq: 60, Skv: 270, Heads: 2, D: 16,
			Bias: AttentionBias{Head: 60 * 270, Row: 270}}},
		{"a mask of keys", AttentionShape{B: 3, Sq: 49, Skv: 520, Heads: 2, KVHeads: 1, D: 16,
			Bias: AttentionBias{Image: 520}}},
		{"lengths", AttentionShape{B: 4, Sq: 7, Skv: 300, Heads: 1, D: 40, Lengths: []int32{0, 300, 1, 257}}},
		{"everything", AttentionShape{B: 2, Sq: 290, Skv: 290, Heads: 2, KVHeads: 1, D: 16, Causal: true,
			Lengths: []int32{280, 5}, Bias: AttentionBias{Image: 290 * 290, Row: 290}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.s
			s.Scale = 0.3
			rng := rand.New(rand.NewPCG(1, 2))
			q := random(rng, s.B*s.Sq*s.Heads*s.D, 1)
			k, v := random(rng, s.B*s.Skv*s.kvHeads()*s.D, 1), random(rng, s.B*s.Skv*s.kvHeads()*s.D, 1)
			if b := &s.Bias; b.Image+b.Head+b.Row > 0 {
				b.Data = random(rng, s.Skv+b.Image*(s.B-1)+b.Head*(s.Heads-1)+b.Row*(s.Sq-1), 1)
				for i := range b.Data {
					switch {
					case i%7 == 0 || i < s.Skv: // the first row as a whole
						b.Data[i] = -inf
					case i >= len(b.Data)-s.Skv: // the last one, of equal numbers
						b.Data[i] = -math.MaxFloat32
					}
				}
			}
			want := attentionDefinition(q, k, v, s)
			onTwins(t, func(t *testing.T, p *Pool) []float32 {
				out := random(rng, len(q), 1)
				p.Attention(out, q, k, v, s)
				near(t, "attention", out, want, 3e-6)
				return out
			})
		})
	}
}
