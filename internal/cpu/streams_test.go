package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/euryale-ml/euryale/internal/dtype"
)

func TestNorms(t *testing.T) {
	for i, c := range []struct{ b, hw, c, groups int }{
		{1, 1, 8, 2}, {2, 50, 32, 8}, {1, 1200, 40, 4}, {2, 17, 320, 32}, {1, 9, 7, 7}, {1, 300, 20, 1}, {1, 3000, 64, 32},
	} {
		for _, silu := range []bool{false, true} {
			t.Run(fmt.Sprintf("%+v silu=%v", c, silu), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(4, uint64(i)))
				x, gamma, beta := random(rng, c.b*c.hw*c.c, 2), random(rng, c.c, 1), random(rng, c.c, 1)
				for j := range x {
					x[j] += 30 // a mean much larger than the deviation
				}
				group, layer := make([]float64, len(x)), make([]float64, len(x))
				per := c.c / c.groups
				for b := range c.b {
					for g := range c.groups {
						var at []int
						for p := range c.hw {
							for j := range per {
								at = append(at, (b*c.hw+p)*c.c+g*per+j)
							}
						}
						normalise(group, x, at, gamma, beta, c.c, 1e-5)
					}
					for p := range c.hw {
						var at []int
						for j := range c.c {
							at = append(at, (b*c.hw+p)*c.c+j)
						}
						normalise(layer, x, at, gamma, beta, c.c, 1e-5)
					}
				}
				if silu {
					for j := range group {
						group[j] = act(SiLU, group[j])
					}
				}
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					got := make([]float32, len(x))
					p.GroupNorm(got, x, c.b, c.hw, c.c, c.groups, gamma, beta, 1e-5, silu)
					near(t, "group norm", got, group, 4e-6)
					rows := make([]float32, len(x))
					p.LayerNorm(rows, x, c.b*c.hw, c.c, gamma, beta, 1e-5)
					near(t, "layer norm", rows, layer, 4e-6)
					ones, zeros, bare := make([]float32, c.c), make([]float32, c.c), make([]float32, len(x))
					for j := range ones {
						ones[j] = 1
					}
					p.LayerNorm(rows, x, c.b*c.hw, c.c, ones, zeros, 1e-5)
					p.LayerNorm(bare, x, c.b*c.hw, c.c, nil, nil, 1e-5)
					if !slices.Equal(bare, rows) {
						t.Fatal("layer norm without gamma and beta is not that with 1 and 0")
					}
					return append(got, rows...)
				})
			})
		}
	}
}

func normalise(out []float64, x []float32, at []int, gamma, beta []float32, c int, eps float64) {
	var mean, variance float64
	for _, i := range at {
		mean += float64(x[i]) / float64(len(at))
	}
	for _, i := range at {
		variance += (float64(x[i]) - mean) * (float64(x[i]) - mean) / float64(len(at))
	}
	for _, i := range at {
		out[i] = (float64(x[i])-mean)/math.Sqrt(variance+eps)*float64(gamma[i%c]) + float64(beta[i%c])
	}
}

// TestElementwise takes every length up to three registers, and one with several work items.
func TestElementwise(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	lengths := []int{3*chunk + 5}
	for n := range 25 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		a, b := random(rng, n, 3), random(rng, n, 3)
		for i, v := range []float32{float32(math.Inf(1)), float32(math.NaN()), 0, -200, 200, -20, 20, float32(math.Copysign(0, -1))} {
			if i < n {
				a[n-1-i] = v
			}
		}
		want := make([]float64, n)
		check := func(name string, tol float64, def func(i int) float64, run func(p *Pool, out []float32)) {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				for i := range want {
					want[i] = def(i)
				}
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					out := make([]float32, n)
					run(p, out)
					near(t, name, out, want, tol)
					inPlace := append([]float32(nil), a...)
					if name != "add" && name != "mul" {
						return out
					}
					if name == "add" {
						p.Add(inPlace, inPlace, b)
					} else {
						p.Mul(inPlace, inPlace, b)
					}
					near(t, name+" in place", inPlace, want, tol)
					return out
				})
			})
		}
		check("add", 1e-7, func(i int) float64 { return float64(a[i] + b[i]) }, func(p *Pool, out []float32) { p.Add(out, a, b) })
		check("mul", 1e-7, func(i int) float64 { return float64(a[i] * b[i]) }, func(p *Pool, out []float32) { p.Mul(out, a, b) })
		check("sub", 1e-7, func(i int) float64 { return float64(a[i] - b[i]) }, func(p *Pool, out []float32) { p.Sub(out, a, b) })
		check("scale", 1e-7, func(i int) float64 { return float64(a[i] * 0.3) }, func(p *Pool, out []float32) { p.Scale(out, a, 0.3) })
		for _, f := range []Activation{SiLU, GELU, QuickGELU, GELUTanh, ReLU, Tanh} {
			tol := 1e-8 // of numbers up to 200
			if f == Tanh {
				tol = 6e-8
			}
			check(f.String(), tol, func(i int) float64 { return act(f, float64(a[i])) }, func(p *Pool, out []float32) { p.Activate(out, a, f) })
		}
	}
}

// TestPowers checks 2^x over its whole range, where softmax uses it: relative error, zero far below, NaN kept.
func TestPowers(t *testing.T) {
	var x []float32
	for v := -140.0; v <= 0; v += 0.0137 {
		x = append(x, float32(v))
	}
	x = append(x, float32(math.Inf(-1)), -1e30, 0)
	for len(x)%16 != 0 {
		x = append(x, -1)
	}
	for _, k := range twins() {
		got := append([]float32(nil), x...)
		sum := k.exp2Sum(got, 0)
		var total float64
		for i, v := range x {
			want := math.Exp2(float64(v))
			total += want
			if want < 1e-38 {
				if got[i] > 1e-37 || got[i] < 0 {
					t.Errorf("%s: 2^%v = %v", k.name, v, got[i])
				}
			} else if e := math.Abs(float64(got[i])/want - 1); !(e < 3e-7) {
				t.Errorf("%s: 2^%v = %v, off by %.2g", k.name, v, got[i], e)
			}
		}
		if e := math.Abs(float64(sum)/total - 1); !(e < 1e-6) {
			t.Errorf("%s: sum %v, want %v", k.name, sum, total)
		}
		row := make([]float32, 16)
		row[3] = float32(math.NaN())
		if s := k.exp2Sum(row, 0); s == s {
			t.Errorf("%s: the sum of powers of NaN is %v", k.name, s)
		}
	}
}

// TestNaN: a NaN among the inputs reaches every output it is part of, through each kernel.
func TestNaN(t *testing.T) {
	nan := float32(math.NaN())
	onTwins(t, func(t *testing.T, p *Pool) []float32 {
		x := make([]float32, 4*32)
		x[32+5] = nan
		w := make([]byte, PanelBytes(16, 32, dtype.F32))
		out := make([]float32, 4*16)
		p.Linear(out, x, 4, Panels{Data: w, DType: dtype.F32, N: 16, K: 32}, Epilogue{Act: SiLU})
		for i, v := range out {
			if (v != v) != (i/16 == 1) {
				t.Errorf("linear: element %d is %v", i, v)
			}
		}
		y := make([]float32, len(x))
		p.Attention(y, x, x, x, AttentionShape{B: 1, Sq: 4, Skv: 4, Heads: 1, D: 32, Scale: 1})
		for i, v := range y {
			if v == v {
				t.Errorf("attention: element %d is %v", i, v)
			}
		}
		p.GroupNorm(y, x, 2, 2, 32, 1, x[:32], x[:32], 1e-5, true)
		for i, v := range y {
			if (v != v) != (i < 64) {
				t.Errorf("group norm: element %d is %v", i, v)
			}
		}
		p.LayerNorm(y, x, 4, 32, x[:32], x[:32], 1e-5)
		for i, v := range y {
			if (v != v) != (i/32 == 1) {
				t.Errorf("layer norm: element %d is %v", i, v)
			}
		}
		return nil
	})
}

func TestMoving(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 0))
	onTwins(t, func(t *testing.T, p *Pool) []float32 {
		a, b := random(rng, 3*5, 1), random(rng, 3*2, 1)
		out := make([]float32, 3*7)
		p.Concat(out, a, b, 3, 5, 2)
		for r := range 3 {
			for c := range 7 {
				want := a[r*5+min(c, 4)]
				if c >= 5 {
					want = b[r*2+c-5]
				}
				if out[r*7+c] != want {
					t.Fatalf("concat: [%d %d] is %v, want %v", r, c, out[r*7+c], want)
				}
			}
		}
		x := random(rng, 2*3*4*5, 1)
		up := make([]float32, 4*len(x))
		p.Upsample2(up, x, 2, 3, 4, 5)
		for i := range up {
			b, y, xx, c := i/(6*8*5), i/(8*5)%6, i/5%8, i%5
			if want := x[((b*3+y/2)*4+xx/2)*5+c]; up[i] != want {
				t.Fatalf("upsample: element %d is %v, want %v", i, up[i], want)
			}
		}
		ch := random(rng, 2*5, 1)
		got := make([]float32, len(x))
		p.AddChannels(got, x, 2, 12, 5, ch)
		for i := range got {
			if want := x[i] + ch[i/60*5+i%5]; got[i] != want {
				t.Fatalf("add channels: element %d is %v, want %v", i, got[i], want)
			}
		}
		return nil
	})
}

func TestPool(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	seen := make([]int, 1000)
	p.For(len(seen), func(_, i int) { seen[i]++ })
	for i, n := range seen {
		if n != 1 {
			t.Fatalf("item %d ran %d times", i, n)
		}
	}
	mustPanic := func(want string, body func()) {
		t.Helper()
		defer func() {
			if r := recover(); fmt.Sprint(r) != want {
				t.Errorf("panic %v, want %s", r, want)
			}
		}()
		body()
	}
	mustPanic("item 5", func() {
		p.For(100, func(_, i int) {
			if i == 5 {
				panic("item 5")
			}
		})
	})
	mustPanic("cpu: Pool used from two goroutines, or from inside a body", func() {
		p.For(1, func(_, _ int) { p.For(1, func(_, _ int) {}) })
	})
	mustPanic("cpu: linear: a has 3 elements, want 4", func() { p.Linear(nil, make([]float32, 3), 2, Panels{K: 2}, Epilogue{}) })
	p.For(10, func(_, _ int) {}) // and it still works
}
