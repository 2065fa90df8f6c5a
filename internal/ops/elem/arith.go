// Package elem has the ops that sum nothing: an element of a result comes from one element of each argument, by a
// function, or as it is in another order or place. Package op says what an op is.
package elem

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Mul is x b, element by element.
//
//	x, result  [B ... C]
//	b          [B ... C], or a vector of channels: [B C] for each image, [C] for all
type Mul struct{ op.Plain }

func (k Mul) String() string { return "Mul{}" }
func (k Mul) Arity() int     { return 2 }
func (k Mul) InPlace() []int { return []int{0, 1} }

func (k Mul) Infer(in []tensor.Shape) (tensor.Shape, error) { return operand(k, in) }

func (k Mul) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, b, v := in[0].F32(), in[1].F32(), spreadOver(shape, in[1].Shape)
	for i := range out {
		out[i] = x[i] * b[v.at(i)]
	}
}

func (k Mul) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if v := spreadOver(out.Shape, in[1].Shape); v.vectors {
		p.MulVectors(out.F32(), in[0].F32(), v.b, v.pixels, v.c, cpu.Vectors{Data: in[1].F32(), Stride: v.stride})
		return
	}
	p.Mul(out.F32(), in[0].F32(), in[1].F32())
}

func (k Mul) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("mul", out, func(p *pointwiseParams) { p.two(out, in) })
}

// Sub is x - b, element by element.
//
//	x, result  [B ... C]
//	b          [B ... C], or a vector of channels: [B C] for each image, [C] for all
type Sub struct{ op.Plain }

func (k Sub) String() string { return "Sub{}" }
func (k Sub) Arity() int     { return 2 }
func (k Sub) InPlace() []int { return []int{0, 1} }

func (k Sub) Infer(in []tensor.Shape) (tensor.Shape, error) { return operand(k, in) }

func (k Sub) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, b, v := in[0].F32(), in[1].F32(), spreadOver(shape, in[1].Shape)
	for i := range out {
		out[i] = x[i] - b[v.at(i)]
	}
}

func (k Sub) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if v := spreadOver(out.Shape, in[1].Shape); v.vectors {
		p.SubVectors(out.F32(), in[0].F32(), v.b, v.pixels, v.c, cpu.Vectors{Data: in[1].F32(), Stride: v.stride})
		return
	}
	p.Sub(out.F32(), in[0].F32(), in[1].F32())
}

func (k Sub) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("sub", out, func(p *pointwiseParams) { p.two(out, in) })
}

// operand checks b of Mul and Sub.
func operand(k op.Kind, in []tensor.Shape) (tensor.Shape, error) {
	x, b := in[0], in[1]
	switch {
	case len(x) == 0:
		return nil, op.WrongShape(k, "x", x, "[B ... C]")
	case op.Same(b, x), op.Same(b, tensor.Shape{op.Last(x)}), len(x) > 2 && op.Same(b, tensor.Shape{x[0], op.Last(x)}):
		return x.Clone(), nil
	case len(x) < 3:
		return nil, op.WrongShape(k, "b", b, "%v or [%d]", []int(x), op.Last(x))
	}
	return nil, op.WrongShape(k, "b", b, "%v, [%d %d] or [%d]", []int(x), x[0], op.Last(x), op.Last(x))
}

// spreading is how an operand lies along x [b pixels c]: like x, or as vectors of c numbers, stride apart, one for each
// image. With a stride of 0 all images share one.
type spreading struct {
	vectors      bool
	b, pixels, c int
	stride       int
}

func spreadOver(x, operand tensor.Shape) spreading {
	v := spreading{b: x[0], pixels: op.Rows(x) / x[0], c: op.Last(x)}
	if len(x) == 1 {
		v.b, v.pixels = 1, 1
	}
	v.vectors = !op.Same(x, operand)
	if len(operand) == 2 {
		v.stride = operand[1]
	}
	return v
}

// at is the place of the operand's number for element i of x.
func (v spreading) at(i int) int {
	if !v.vectors {
		return i
	}
	return i/(v.pixels*v.c)*v.stride + i%v.c
}

// Scale is x times a constant.
//
//	x, result  [...]
type Scale struct {
	op.Plain
	Factor float32
}

func (k Scale) String() string { return fmt.Sprintf("Scale{factor=%g}", k.Factor) }
func (k Scale) Arity() int     { return 1 }
func (k Scale) InPlace() []int { return []int{0} }

func (k Scale) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) == 0 {
		return nil, op.WrongShape(k, "x", in[0], "at least one dimension")
	}
	return op.SameShape(in)
}

func (k Scale) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	for i, v := range in[0].F32() {
		out[i] = v * k.Factor
	}
}

func (k Scale) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Scale(out.F32(), in[0].F32(), k.Factor)
}

func (k Scale) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("scale", out, func(p *pointwiseParams) { p.a, p.factor = in[0].Ptr, k.Factor })
}
