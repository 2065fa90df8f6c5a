package elem

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// pointwiseParams is PointwiseParams of pointwise.cu.
type pointwiseParams struct {
	a, b, c, out               device.Ptr
	n, image                   int64
	channels, act              int32
	bStride, bAt, cStride, cAt int32
	vectors                    int32
	factor                     float32
}

// pointwise launches a kernel of pointwise.cu over the elements of out.
func pointwise(name string, out device.Arg, set func(p *pointwiseParams)) ([]device.Kernel, error) {
	s := out.Shape
	p := &pointwiseParams{out: out.Ptr, n: int64(s.TotalSize()), image: int64(s.TotalSize() / s[0]),
		channels: int32(op.Last(s))}
	set(p)
	return []device.Kernel{op.Launch(name, out.DType, p, op.PackBlocks(out), 256, 0)}, nil
}

// two sets the operands of Mul and Sub.
func (p *pointwiseParams) two(out device.Arg, in []device.Arg) {
	v := spreadOver(out.Shape, in[1].Shape)
	p.a, p.b, p.vectors, p.bStride = in[0].Ptr, in[1].Ptr, int32(op.Count(v.vectors)), int32(v.stride)
}

// Activate applies a function to each element; GEGLU halves the last dimension.
//
//	x      [... C]
//	result [... C]   or C/2
type Activate struct {
	op.Plain
	Act op.Activation
}

func (k Activate) String() string { return fmt.Sprintf("Activate{%v}", k.Act) }
func (k Activate) Arity() int     { return 1 }

func (k Activate) Infer(in []tensor.Shape) (tensor.Shape, error) {
	out := in[0].Clone()
	if k.Act == op.GEGLU {
		if op.Last(out)%2 != 0 {
			return nil, op.BadShapes(k, in)
		}
		out[len(out)-1] /= 2
	}
	return out, nil
}

func (k Activate) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), op.Last(shape)
	wide := op.Last(in[0].Shape)
	for r := range op.Rows(shape) {
		k.Act.Define(out[r*c:][:c], x[r*wide:][:wide])
	}
}

func (k Activate) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if k.Act == op.GEGLU {
		k.Define(out.F32(), out.Shape, in)
		return
	}
	p.Activate(out.F32(), in[0].F32(), cpu.Activation(k.Act))
}

func (k Activate) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	if !k.Act.InEpilogues() {
		return pointwise("apply", out, func(p *pointwiseParams) { p.a, p.act = in[0].Ptr, int32(k.Act) })
	}
	return op.Elementwise("activate", out, in, func(p *op.ElementwiseParams) { p.Act = int32(k.Act) })
}

func (k Activate) InPlace() []int {
	if k.Act == op.GEGLU {
		return nil
	}
	return []int{0}
}

// Add is a + b.
//
//	a, b, result  [...]
type Add struct{ op.Plain }

func (k Add) String() string { return "Add{}" }
func (k Add) Arity() int     { return 2 }
func (k Add) InPlace() []int { return []int{0, 1} }

func (k Add) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if !in[0].Eq(in[1]) {
		return nil, op.BadShapes(k, in)
	}
	return op.SameShape(in)
}

func (k Add) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	a, b := in[0].F32(), in[1].F32()
	for i := range out {
		out[i] = a[i] + b[i]
	}
}

func (k Add) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Add(out.F32(), in[0].F32(), in[1].F32())
}

func (k Add) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return op.Elementwise("add", out, in, nil)
}

// AddChannels adds one vector to every pixel of an image.
//
//	x      [B ... C]
//	ch     [B C]
//	result [B ... C]
type AddChannels struct{ op.Plain }

func (k AddChannels) String() string { return "AddChannels{}" }
func (k AddChannels) Arity() int     { return 2 }
func (k AddChannels) InPlace() []int { return []int{0} }

func (k AddChannels) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) < 3 || !in[1].Eq(tensor.Shape{x[0], op.Last(x)}) {
		return nil, op.BadShapes(k, in)
	}
	return op.SameShape(in)
}

func (k AddChannels) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, ch := in[0].F32(), in[1].F32()
	c := op.Last(shape)
	image := len(out) / shape[0]
	for i := range out {
		out[i] = x[i] + ch[i/image*c+i%c]
	}
}

func (k AddChannels) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s := out.Shape
	p.AddChannels(out.F32(), in[0].F32(), s[0], op.Rows(s)/s[0], op.Last(s), in[1].F32())
}

func (k AddChannels) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return op.Elementwise("add_channels", out, in, nil)
}
