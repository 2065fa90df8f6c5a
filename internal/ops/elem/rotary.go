package elem

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Rotary turns pairs of numbers of each head by angles that depend on the position (Su et al. 2021): (a, b) becomes
// (a cos - b sin, b cos + a sin). Pair j of a head is its numbers 2j and 2j+1, as FLUX and Z-Image have it, or j and
// j+R/2 if Halves, as Llama has it. Numbers of the head from R on stay as they are.
//
//	x, result  [B ... Heads*D]   S positions for each image
//	cos, sin   [S R/2]           R at most D
type Rotary struct {
	op.Plain
	Heads  int
	Halves bool
}

func (k Rotary) String() string { return fmt.Sprintf("Rotary{heads=%d halves=%t}", k.Heads, k.Halves) }
func (k Rotary) Arity() int     { return 3 }
func (k Rotary) InPlace() []int { return []int{0} }

func (k Rotary) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x, cos, sin := in[0], in[1], in[2]
	if len(x) < 2 || k.Heads < 1 || op.Last(x)%k.Heads != 0 {
		return nil, op.WrongShape(k, "x", x, "[B ... C] with C a multiple of %d heads", k.Heads)
	}
	s, d := op.Rows(x)/x[0], op.Last(x)/k.Heads
	if len(cos) != 2 || cos[0] != s || cos[1] < 1 || cos[1] > d/2 {
		return nil, op.WrongShape(k, "cos", cos, "[%d %d], or fewer columns to turn a part of each head", s, d/2)
	}
	if !op.Same(sin, cos) {
		return nil, op.WrongShape(k, "sin", sin, "%v, like cos", []int(cos))
	}
	return op.SameShape(in)
}

func (k Rotary) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, cos, sin := in[0].F32(), in[1].F32(), in[2].F32()
	s, half := in[1].Shape[0], in[1].Shape[1]
	d := op.Last(shape) / k.Heads
	copy(out, x)
	for head := range op.Rows(shape) * k.Heads {
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

func (k Rotary) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s, d, angles := out.Shape, op.Last(out.Shape)/k.Heads, in[1].Shape
	p.Rotary(out.F32(), in[0].F32(), op.Rows(s), angles[0], k.Heads, d, 2*angles[1], in[1].F32(), in[2].F32(), k.Halves)
}

// Float: an angle's rounding to 16 bits would turn far positions into others.
func (k Rotary) Float(i int) bool { return i > 0 }

// rotaryParams is RotaryParams of pointwise.cu.
type rotaryParams struct {
	x, cos, sin, out                 device.Ptr
	rows                             int64
	seq, heads, d, width, halves, _0 int32
}

func (k Rotary) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	angles := in[1].Shape
	p := &rotaryParams{x: in[0].Ptr, cos: in[1].Ptr, sin: in[2].Ptr, out: out.Ptr, rows: int64(op.Rows(out.Shape)),
		seq: int32(angles[0]), heads: int32(k.Heads), d: int32(op.Last(out.Shape) / k.Heads), width: int32(2 * angles[1]),
		halves: int32(op.Count(k.Halves))}
	return []device.Kernel{op.Launch("rotary", out.DType, p, op.PackBlocks(out), 256, 0)}, nil
}
