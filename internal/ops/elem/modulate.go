package elem

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// NoPart says of a part of a modulation that there is none.
const NoPart = -1

// Modulate is x (1 + scale) + shift, with one scale and one shift for each image (Perez et al. 2018; with 1 + scale,
// Peebles and Xie 2023). They are parts of tensors whose rows are several vectors of C numbers, and nothing is copied
// to take one out: Scale is that part of argument 1, Shift of argument 1 too or, if Apart, of 2.
//
//	x, result     [B ... C]
//	scale, shift  [B K*C]    K parts
type Modulate struct {
	op.Plain
	Scale, Shift int // Shift is NoPart if nothing is added
	Apart        bool
}

func (k Modulate) String() string {
	return fmt.Sprintf("Modulate{scale=%d shift=%d apart=%t}", k.Scale, k.Shift, k.Apart)
}
func (k Modulate) Arity() int     { return 2 + op.Count(k.Apart) }
func (k Modulate) InPlace() []int { return []int{0} }

func (k Modulate) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := needRows(k, "x", x); err != nil {
		return nil, err
	}
	if err := hasPart(k, "scale", in[1], x, k.Scale); err != nil {
		return nil, err
	}
	if k.Shift != NoPart {
		if err := hasPart(k, "shift", in[len(in)-1], x, k.Shift); err != nil {
			return nil, err
		}
	}
	return op.SameShape(in)
}

func (k Modulate) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x := in[0].F32()
	for i := range out {
		y := float64(x[i]) * (1 + float64(part(in[1], k.Scale, shape, i)))
		if k.Shift != NoPart {
			y += float64(part(in[len(in)-1], k.Shift, shape, i))
		}
		out[i] = float32(y)
	}
}

func (k Modulate) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s, c := out.Shape, op.Last(out.Shape)
	var shift cpu.Vectors
	if k.Shift != NoPart {
		shift = vectors(in[len(in)-1], k.Shift, c)
	}
	p.Modulate(out.F32(), in[0].F32(), s[0], op.Rows(s)/s[0], c, vectors(in[1], k.Scale, c), shift)
}

func (k Modulate) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("modulate", out, func(p *pointwiseParams) {
		p.a, p.b, p.bStride, p.bAt = in[0].Ptr, in[1].Ptr, int32(in[1].Shape[1]), int32(k.Scale)*p.channels
		if k.Shift != NoPart {
			a := in[len(in)-1]
			p.c, p.cStride, p.cAt = a.Ptr, int32(a.Shape[1]), int32(k.Shift)*p.channels
		}
	})
}

// AddGated is x + gate*y, with one gate for each image: part number Gate of a tensor of K parts.
//
//	x, y, result  [B ... C]
//	gate          [B K*C]
type AddGated struct {
	op.Plain
	Gate int
}

func (k AddGated) String() string { return fmt.Sprintf("AddGated{gate=%d}", k.Gate) }
func (k AddGated) Arity() int     { return 3 }
func (k AddGated) InPlace() []int { return []int{0, 1} }

func (k AddGated) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := needRows(k, "x", x); err != nil {
		return nil, err
	}
	if !op.Same(in[1], x) {
		return nil, op.WrongShape(k, "y", in[1], "%v, like x", []int(x))
	}
	if err := hasPart(k, "gate", in[2], x, k.Gate); err != nil {
		return nil, err
	}
	return op.SameShape(in)
}

func (k AddGated) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, y := in[0].F32(), in[1].F32()
	for i := range out {
		out[i] = float32(float64(x[i]) + float64(part(in[2], k.Gate, shape, i))*float64(y[i]))
	}
}

func (k AddGated) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s, c := out.Shape, op.Last(out.Shape)
	p.AddGated(out.F32(), in[0].F32(), in[1].F32(), s[0], op.Rows(s)/s[0], c, vectors(in[2], k.Gate, c))
}

func (k AddGated) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("add_gated", out, func(p *pointwiseParams) {
		p.a, p.b = in[0].Ptr, in[1].Ptr
		p.c, p.cStride, p.cAt = in[2].Ptr, int32(in[2].Shape[1]), int32(k.Gate)*p.channels
	})
}

func needRows(k op.Kind, name string, x tensor.Shape) error {
	if len(x) < 2 {
		return op.WrongShape(k, name, x, "[B ... C]")
	}
	return nil
}

// hasPart checks that a tensor has a vector number i for each image of x.
func hasPart(k op.Kind, name string, a, x tensor.Shape, i int) error {
	c := op.Last(x)
	if i < 0 || len(a) != 2 || a[0] != x[0] || c == 0 || a[1]%c != 0 || a[1] < (i+1)*c {
		return op.WrongShape(k, name, a, "[%d K*%d] of which part %d is taken, K at least %d", x[0], c, i, max(0, i)+1)
	}
	return nil
}

// part is the number for element i of x in part n of a.
func part(a program.Arg, n int, x tensor.Shape, i int) float32 {
	c := op.Last(x)
	return a.F32()[i/(x.TotalSize()/x[0])*a.Shape[1]+n*c+i%c]
}

func vectors(a program.Arg, n, c int) cpu.Vectors {
	return cpu.Vectors{Data: a.F32(), Stride: a.Shape[1], At: n * c}
}
