package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Each case runs out of place and in the place of each argument whose memory the result may take.
func inPlace(t *testing.T, name string, want []float64, tol float64, args [][]float32, places []int,
	run func(out []float32, args [][]float32)) []float32 {
	out := make([]float32, len(want))
	run(out, args)
	near(t, name, out, want, tol)
	for _, i := range places {
		copied := make([][]float32, len(args))
		for j, a := range args {
			copied[j] = append([]float32(nil), a...)
		}
		run(copied[i], copied)
		near(t, fmt.Sprintf("%s in the place of argument %d", name, i), copied[i], want, tol)
	}
	return out
}

func TestVectors(t *testing.T) {
	for i, s := range []struct{ b, hw, c, parts int }{{1, 1, 1, 1}, {2, 5, 7, 3}, {3, 700, 24, 6}, {2, 2, 20000, 2}} {
		rng := rand.New(rand.NewPCG(7, uint64(i)))
		n := s.b * s.hw * s.c
		x, y, mod := random(rng, n, 2), random(rng, n, 2), random(rng, s.b*s.parts*s.c, 1)
		own := Vectors{Data: mod, Stride: s.parts * s.c, At: (s.parts - 1) * s.c}
		shared := Vectors{Data: mod[:s.c]}
		first := Vectors{Data: mod, Stride: s.parts * s.c}
		of := func(v Vectors, j int) float64 { return float64(v.Data[j/(s.hw*s.c)*v.Stride+v.At+j%s.c]) }
		for _, c := range []struct {
			name   string
			places []int
			def    func(j int) float64
			run    func(p *Pool, out []float32, a [][]float32)
		}{
			{"a vector for each image times", []int{0}, func(j int) float64 { return float64(x[j]) * of(own, j) },
				func(p *Pool, out []float32, a [][]float32) { p.MulVectors(out, a[0], s.b, s.hw, s.c, own) }},
			{"less a vector for all", []int{0}, func(j int) float64 { return float64(x[j]) - of(shared, j) },
				func(p *Pool, out []float32, a [][]float32) { p.SubVectors(out, a[0], s.b, s.hw, s.c, shared) }},
			{"modulate", []int{0}, func(j int) float64 { return float64(x[j])*(1+of(own, j)) + of(first, j) },
				func(p *Pool, out []float32, a [][]float32) { p.Modulate(out, a[0], s.b, s.hw, s.c, own, first) }},
			{"modulate without a shift", []int{0}, func(j int) float64 { return float64(x[j]) * (1 + of(first, j)) },
				func(p *Pool, out []float32, a [][]float32) { p.Modulate(out, a[0], s.b, s.hw, s.c, first, Vectors{}) }},
			{"add gated", []int{0, 1}, func(j int) float64 { return float64(x[j]) + of(own, j)*float64(y[j]) },
				func(p *Pool, out []float32, a [][]float32) { p.AddGated(out, a[0], a[1], s.b, s.hw, s.c, own) }},
		} {
			t.Run(fmt.Sprintf("%s %+v", c.name, s), func(t *testing.T) {
				want := make([]float64, n)
				for j := range want {
					want[j] = c.def(j)
				}
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					return inPlace(t, c.name, want, 2e-7, [][]float32{x, y}, c.places,
						func(out []float32, a [][]float32) { c.run(p, out, a) })
				})
			})
		}
	}
}

func TestGated(t *testing.T) {
	for _, s := range []struct{ rows, c int }{{1, 1}, {3, 7}, {5, 1024}, {2, 40000}} {
		for _, f := range []Activation{SiLU, GELU, GELUTanh} {
			rng := rand.New(rand.NewPCG(8, uint64(s.c)))
			n := s.rows * s.c
			gate, value, x := random(rng, n, 3), random(rng, n, 3), random(rng, 2*n, 3)
			two, halves, swapped := make([]float64, n), make([]float64, n), make([]float64, n)
			for j := range two {
				two[j] = act(f, float64(gate[j])) * float64(value[j])
				a, b := float64(x[j/s.c*2*s.c+j%s.c]), float64(x[(j/s.c*2+1)*s.c+j%s.c])
				halves[j], swapped[j] = a*act(f, b), act(f, a)*b
			}
			t.Run(fmt.Sprintf("%v %+v", f, s), func(t *testing.T) {
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					all := inPlace(t, "gated", two, 4e-7, [][]float32{gate, value}, []int{0, 1},
						func(out []float32, a [][]float32) { p.Gated(out, a[0], a[1], f) })
					for _, first := range []bool{false, true} {
						want := map[bool][]float64{false: halves, true: swapped}[first]
						all = append(all, inPlace(t, fmt.Sprintf("halves, gate first %t", first), want, 4e-7, [][]float32{x}, nil,
							func(out []float32, a [][]float32) { p.GatedHalves(out, a[0], s.rows, s.c, f, first) })...)
					}
					return all
				})
			})
		}
	}
}

func TestRMSNorm(t *testing.T) {
	for i, s := range []struct{ rows, c int }{{1, 1}, {3, 7}, {700, 64}, {2, 40000}} {
		rng := rand.New(rand.NewPCG(9, uint64(i)))
		x, gamma := random(rng, s.rows*s.c, 2), random(rng, s.c, 1)
		clear(x[:s.c]) // eps alone counts
		for _, g := range [][]float32{gamma, nil} {
			want := make([]float64, len(x))
			for r := range s.rows {
				var squares float64
				for _, v := range x[r*s.c:][:s.c] {
					squares += float64(v) * float64(v) / float64(s.c)
				}
				for j := range s.c {
					want[r*s.c+j] = float64(x[r*s.c+j]) / math.Sqrt(squares+1e-6)
					if g != nil {
						want[r*s.c+j] *= float64(g[j])
					}
				}
			}
			t.Run(fmt.Sprintf("%+v weight %t", s, g != nil), func(t *testing.T) {
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					return inPlace(t, "rms norm", want, 4e-7, [][]float32{x}, []int{0},
						func(out []float32, a [][]float32) { p.RMSNorm(out, a[0], s.rows, s.c, g, 1e-6) })
				})
			})
		}
	}
}

func TestRotary(t *testing.T) {
	for i, s := range []struct{ b, s, heads, d, width int }{
		{1, 1, 1, 2, 2}, {2, 5, 3, 8, 8}, {2, 7, 2, 10, 6}, {1, 300, 4, 64, 64},
	} {
		rng := rand.New(rand.NewPCG(10, uint64(i)))
		h := s.width / 2
		x, angle := random(rng, s.b*s.s*s.heads*s.d, 2), random(rng, s.s*h, 3)
		cos, sin := make([]float32, len(angle)), make([]float32, len(angle))
		for j, a := range angle {
			cos[j], sin[j] = float32(math.Cos(float64(a))), float32(math.Sin(float64(a)))
		}
		for _, halves := range []bool{false, true} {
			want := make([]float64, len(x))
			for j := range want {
				want[j] = float64(x[j])
				in, row := j%s.d, j/(s.heads*s.d)
				if in >= s.width {
					continue
				}
				pair, second, other := in/2, in%2 == 1, j^1
				if halves {
					pair, second, other = in%h, in >= h, j+h
					if second {
						other = j - h
					}
				}
				at := row%s.s*h + pair
				sine := -float64(sin[at])
				if second {
					sine = -sine
				}
				want[j] = float64(x[j])*float64(cos[at]) + float64(x[other])*sine
			}
			t.Run(fmt.Sprintf("%+v halves %t", s, halves), func(t *testing.T) {
				onTwins(t, func(t *testing.T, p *Pool) []float32 {
					return inPlace(t, "rotary", want, 2e-7, [][]float32{x}, []int{0}, func(out []float32, a [][]float32) {
						p.Rotary(out, a[0], s.b*s.s, s.s, s.heads, s.d, s.width, cos, sin, halves)
					})
				})
			})
		}
	}
}

// TestGather: a result of every rank, in orders and parts that need the last dimension in pieces.
func TestGather(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 0))
	x := random(rng, 3*40*50*7, 1)
	for name, s := range map[string]Strided{
		"all":                 {Dims: 1, Size: [8]int{len(x)}, Stride: [8]int{1}},
		"every third":         {Dims: 1, Size: [8]int{len(x) / 3}, Stride: [8]int{3}, Offset: 2},
		"a transposition":     {Dims: 2, Size: [8]int{350, 120}, Stride: [8]int{1, 350}},
		"many transpositions": {Dims: 3, Size: [8]int{40, 19, 35}, Stride: [8]int{1050, 1, 21}, Offset: 1},
		"one of many rows":    {Dims: 2, Size: [8]int{7, 6000}, Stride: [8]int{1, 7}},
		"part of each row":    {Dims: 2, Size: [8]int{120, 300}, Stride: [8]int{350, 1}, Offset: 33},
		"all orders at once":  {Dims: 4, Size: [8]int{7, 40, 3, 50}, Stride: [8]int{1, 350, 14000, 7}},
		"eight dimensions": {Dims: 8, Size: [8]int{2, 1, 3, 2, 1, 2, 2, 3},
			Stride: [8]int{9, 5, 700, 31, 2, 8, 1, 60}, Offset: 11},
		"nothing": {Dims: 2, Size: [8]int{0, 5}, Stride: [8]int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			want := []float64{}
			var walk func(d, at int)
			walk = func(d, at int) {
				if d == s.Dims {
					want = append(want, float64(x[at]))
					return
				}
				for i := range s.Size[d] {
					walk(d+1, at+i*s.Stride[d])
				}
			}
			walk(0, s.Offset)
			onTwins(t, func(t *testing.T, p *Pool) []float32 {
				out := make([]float32, len(want))
				p.Gather(out, x, s)
				near(t, name, out, want, 0)
				return out
			})
		})
	}
}

// BenchmarkBlocks reports GB/s of what must be read and written, beside those of a copy.
func BenchmarkBlocks(b *testing.B) {
	const rows, heads, d = 1024, 24, 128
	const c = heads * d
	rng := rand.New(rand.NewPCG(12, 0))
	x, y, out := random(rng, rows*c, 1), random(rng, rows*c, 1), make([]float32, rows*c)
	mod, angle := random(rng, 6*c, 1), random(rng, rows*d/2, 1)
	p := NewPool(0)
	defer p.Close()
	own := Vectors{Data: mod, Stride: 6 * c, At: 2 * c}
	permuted := Strided{Dims: 3, Size: [MaxDims]int{heads, rows, d}, Stride: [MaxDims]int{d, c, 1}}
	turned := Strided{Dims: 2, Size: [MaxDims]int{c, rows}, Stride: [MaxDims]int{1, c}}
	for _, k := range []struct {
		name   string
		passes int // over rows*c numbers
		run    func()
	}{
		{"copy", 2, func() { p.each(len(out), func(i, j int) { copy(out[i:j], x[i:j]) }) }},
		{"modulate", 2, func() { p.Modulate(out, x, 1, rows, c, own, own) }},
		{"add-gated", 3, func() { p.AddGated(out, x, y, 1, rows, c, own) }},
		{"rms-norm", 2, func() { p.RMSNorm(out, x, rows, c, mod[:c], 1e-6) }},
		{"rms-norm-of-heads", 2, func() { p.RMSNorm(out, x, rows*heads, d, mod[:d], 1e-6) }},
		{"rotary", 2, func() { p.Rotary(out, x, rows, rows, heads, d, d, angle, angle, false) }},
		{"rotary-of-halves", 2, func() { p.Rotary(out, x, rows, rows, heads, d, d, angle, angle, true) }},
		{"gelu-tanh", 2, func() { p.Activate(out, x, GELUTanh) }},
		{"gated", 3, func() { p.Gated(out, x, y, SiLU) }},
		{"permute-of-heads", 2, func() { p.Gather(out, x, permuted) }},
		{"transposition", 2, func() { p.Gather(out, x, turned) }},
	} {
		b.Run("op="+k.name, func(b *testing.B) {
			for b.Loop() {
				k.run()
			}
			b.ReportMetric(float64(4*k.passes*rows*c)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
		})
	}
}
