package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// concat joins two tensors along the last dimension.
//
//	a      [... Ca]
//	b      [... Cb]
//	result [... Ca+Cb]
type concat struct{ plain }

func (k concat) String() string { return "Concat{}" }
func (k concat) Arity() int     { return 2 }

func (k concat) Infer(in []tensor.Shape) (tensor.Shape, error) {
	a, b := in[0], in[1]
	if len(a) != len(b) || !a[:len(a)-1].Eq(b[:len(b)-1]) {
		return nil, shapeError(k, in)
	}
	out := a.Clone()
	out[len(out)-1] += last(b)
	return out, nil
}

func (k concat) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	ca, cb := last(in[0].Shape), last(in[1].Shape)
	for r := range rows(shape) {
		row := out[r*(ca+cb):]
		copy(row[:ca], in[0].F32()[r*ca:])
		copy(row[ca:ca+cb], in[1].F32()[r*cb:])
	}
}

func (k concat) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Concat(out.F32(), in[0].F32(), in[1].F32(), rows(out.Shape), last(in[0].Shape), last(in[1].Shape))
}

func (k concat) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return elementwise("concat", out, in, func(p *elementwiseParams) { p.Other = int32(last(in[0].Shape)) })
}

// upsample doubles height and width by repeating pixels, less one row or column if the result is to be odd:
// that is torch's nearest interpolation to such a size.
//
//	x      [B H W C]
//	result [B 2H 2W C]
type upsample struct {
	plain
	OddHeight, OddWidth bool
}

func (k upsample) String() string {
	return fmt.Sprintf("Upsample{oddHeight=%t oddWidth=%t}", k.OddHeight, k.OddWidth)
}
func (k upsample) Arity() int { return 1 }

func (k upsample) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) != 4 {
		return nil, shapeError(k, in)
	}
	return tensor.Shape{x[0], 2*x[1] - b2i(k.OddHeight), 2*x[2] - b2i(k.OddWidth), x[3]}, nil
}

func (k upsample) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, from := in[0].F32(), in[0].Shape
	h, w, c := shape[1], shape[2], shape[3]
	for p := range rows(shape) {
		b, y, xx := p/(h*w), p/w%h, p%w
		at := ((b*from[1]+y/2)*from[2] + xx/2) * c
		copy(out[p*c:][:c], x[at:])
	}
}

func (k upsample) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

func (k upsample) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return elementwise("upsample", out, in, func(p *elementwiseParams) { p.Height, p.Width = int32(out.Shape[1]), int32(out.Shape[2]) })
}

// Fuse lets the convolution that follows read the small image.
func (k upsample) Fuse(next kind, arg int, _ tensor.Shape) kind {
	if c, ok := next.(conv); ok && arg == 0 && c.Up == 1 && !k.OddHeight && !k.OddWidth {
		c.Up = 2
		return c
	}
	return nil
}
