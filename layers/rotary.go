package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// rotary turns pairs of numbers of each head by angles that depend on the position (Su et al. 2021): (a, b) becomes
// (a cos - b sin, b cos + a sin). Pair j of a head is its numbers 2j and 2j+1, as FLUX and Z-Image have it, or j and
// j+R/2 if halves, as Llama has it. Numbers of the head from R on stay as they are.
//
//	x, result  [B ... Heads*D]   S positions for each image
//	cos, sin   [S R/2]           R at most D
type rotary struct {
	plain
	Heads  int
	Halves bool
}

func (k rotary) String() string { return fmt.Sprintf("Rotary{heads=%d halves=%t}", k.Heads, k.Halves) }
func (k rotary) Arity() int     { return 3 }
func (k rotary) InPlace() []int { return []int{0} }

func (k rotary) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x, cos, sin := in[0], in[1], in[2]
	if len(x) < 2 || k.Heads < 1 || last(x)%k.Heads != 0 {
		return nil, wrongShape(k, "x", x, "[B ... C] with C a multiple of %d heads", k.Heads)
	}
	s, d := rows(x)/x[0], last(x)/k.Heads
	if len(cos) != 2 || cos[0] != s || cos[1] < 1 || cos[1] > d/2 {
		return nil, wrongShape(k, "cos", cos, "[%d %d], or fewer columns to turn a part of each head", s, d/2)
	}
	if !same(sin, cos) {
		return nil, wrongShape(k, "sin", sin, "%v, like cos", []int(cos))
	}
	return sameShape(in)
}

func (k rotary) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, cos, sin := in[0].F32(), in[1].F32(), in[2].F32()
	s, half := in[1].Shape[0], in[1].Shape[1]
	d := last(shape) / k.Heads
	copy(out, x)
	for head := range rows(shape) * k.Heads {
		for j := range half {
			a, b := head*d+2*j, head*d+2*j+1
			if k.Halves {
				a, b = head*d+j, head*d+j+half
			}
			c, n := float64(cos[head/k.Heads%s*half+j]), float64(sin[head/k.Heads%s*half+j])
			out[a] = float32(float64(x[a])*c - float64(x[b])*n)
			out[b] = float32(float64(x[b])*c + float64(x[a])*n)
		}
	}
}

func (k rotary) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s, d, angles := out.Shape, last(out.Shape)/k.Heads, in[1].Shape
	p.Rotary(out.F32(), in[0].F32(), rows(s), angles[0], k.Heads, d, 2*angles[1], in[1].F32(), in[2].F32(), k.Halves)
}

// Float: an angle's rounding to 16 bits would turn far positions into others.
func (k rotary) Float(i int) bool { return i > 0 }

// rotaryParams is RotaryParams of pointwise.cu.
type rotaryParams struct {
	x, cos, sin, out                 device.Ptr
	rows                             int64
	seq, heads, d, width, halves, _0 int32
}

func (k rotary) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	angles := in[1].Shape
	p := &rotaryParams{x: in[0].Ptr, cos: in[1].Ptr, sin: in[2].Ptr, out: out.Ptr, rows: int64(rows(out.Shape)),
		seq: int32(angles[0]), heads: int32(k.Heads), d: int32(last(out.Shape) / k.Heads), width: int32(2 * angles[1]),
		halves: int32(b2i(k.Halves))}
	return []device.Kernel{launch("rotary", out.DType, p, packBlocks(out), 256, 0)}, nil
}

// Rotary turns neighbouring numbers of each head by the angles of their position, as FLUX and Z-Image do. Where cos and
// sin have fewer than D/2 columns, the rest of each head stays as it is. They are inputs or weights: kernels read them
// as float32, and what a graph computes in 16 bits would send the op to the host.
//
//	x, result  [B ... heads*D]   S positions for each image
//	cos, sin   [S D/2]
func (f Flow) Rotary(cos, sin Flow, heads int) Flow {
	return f.join("rotary", rotary{Heads: heads}, cos, sin)
}

// RotaryHalves is Rotary of pairs that have one number in each half of what is turned, as Llama and Qwen do.
//
//	x, result  [B ... heads*D]   S positions for each image
//	cos, sin   [S D/2]
func (f Flow) RotaryHalves(cos, sin Flow, heads int) Flow {
	return f.join("rotary", rotary{Heads: heads, Halves: true}, cos, sin)
}
