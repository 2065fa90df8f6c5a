package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// mul is x b, element by element.
//
//	x, result  [B ... C]
//	b          [B ... C], or a vector of channels: [B C] for each image, [C] for all
type mul struct{ plain }

func (k mul) String() string { return "Mul{}" }
func (k mul) Arity() int     { return 2 }
func (k mul) InPlace() []int { return []int{0, 1} }

func (k mul) Infer(in []tensor.Shape) (tensor.Shape, error) { return operand(k, in) }

func (k mul) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, b, v := in[0].F32(), in[1].F32(), spreadOver(shape, in[1].Shape)
	for i := range out {
		out[i] = x[i] * b[v.at(i)]
	}
}

func (k mul) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if v := spreadOver(out.Shape, in[1].Shape); v.vectors {
		p.MulVectors(out.F32(), in[0].F32(), v.b, v.pixels, v.c, cpu.Vectors{Data: in[1].F32(), Stride: v.stride})
		return
	}
	p.Mul(out.F32(), in[0].F32(), in[1].F32())
}

func (k mul) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("mul", out, func(p *pointwiseParams) { p.two(out, in) })
}

// sub is x - b, element by element.
//
//	x, result  [B ... C]
//	b          [B ... C], or a vector of channels: [B C] for each image, [C] for all
type sub struct{ plain }

func (k sub) String() string { return "Sub{}" }
func (k sub) Arity() int     { return 2 }
func (k sub) InPlace() []int { return []int{0, 1} }

func (k sub) Infer(in []tensor.Shape) (tensor.Shape, error) { return operand(k, in) }

func (k sub) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, b, v := in[0].F32(), in[1].F32(), spreadOver(shape, in[1].Shape)
	for i := range out {
		out[i] = x[i] - b[v.at(i)]
	}
}

func (k sub) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if v := spreadOver(out.Shape, in[1].Shape); v.vectors {
		p.SubVectors(out.F32(), in[0].F32(), v.b, v.pixels, v.c, cpu.Vectors{Data: in[1].F32(), Stride: v.stride})
		return
	}
	p.Sub(out.F32(), in[0].F32(), in[1].F32())
}

func (k sub) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("sub", out, func(p *pointwiseParams) { p.two(out, in) })
}

// operand checks b of mul and sub.
func operand(k kind, in []tensor.Shape) (tensor.Shape, error) {
	x, b := in[0], in[1]
	switch {
	case len(x) == 0:
		return nil, wrongShape(k, "x", x, "[B ... C]")
	case same(b, x), same(b, tensor.Shape{last(x)}), len(x) > 2 && same(b, tensor.Shape{x[0], last(x)}):
		return x.Clone(), nil
	case len(x) < 3:
		return nil, wrongShape(k, "b", b, "%v or [%d]", []int(x), last(x))
	}
	return nil, wrongShape(k, "b", b, "%v, [%d %d] or [%d]", []int(x), x[0], last(x), last(x))
}

// spreading is how an operand lies along x [b pixels c]: like x, or as vectors of c numbers, stride apart, one for each
// image. With a stride of 0 all images share one.
type spreading struct {
	vectors      bool
	b, pixels, c int
	stride       int
}

func spreadOver(x, operand tensor.Shape) spreading {
	v := spreading{b: x[0], pixels: rows(x) / x[0], c: last(x)}
	if len(x) == 1 {
		v.b, v.pixels = 1, 1
	}
	v.vectors = !same(x, operand)
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

// scale is x times a constant.
//
//	x, result  [...]
type scale struct {
	plain
	Factor float32
}

func (k scale) String() string { return fmt.Sprintf("Scale{factor=%g}", k.Factor) }
func (k scale) Arity() int     { return 1 }
func (k scale) InPlace() []int { return []int{0} }

func (k scale) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) == 0 {
		return nil, wrongShape(k, "x", in[0], "at least one dimension")
	}
	return sameShape(in)
}

func (k scale) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	for i, v := range in[0].F32() {
		out[i] = v * k.Factor
	}
}

func (k scale) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Scale(out.F32(), in[0].F32(), k.Factor)
}

func (k scale) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("scale", out, func(p *pointwiseParams) { p.a, p.factor = in[0].Ptr, k.Factor })
}

// Mul multiplies by another flow, element by element. A flow of fewer dimensions is a vector of channels.
//
//	x, result  [B ... C]
//	other      [B ... C], [B C] or [C]
func (f Flow) Mul(other Flow) Flow { return f.join("mul", mul{}, other) }

// Sub subtracts another flow, element by element. A flow of fewer dimensions is a vector of channels.
//
//	x, result  [B ... C]
//	other      [B ... C], [B C] or [C]
func (f Flow) Sub(other Flow) Flow { return f.join("sub", sub{}, other) }

// Scale multiplies by a constant.
//
//	x, result  [...]
func (f Flow) Scale(factor float32) Flow { return f.apply("scale", scale{Factor: factor}) }
