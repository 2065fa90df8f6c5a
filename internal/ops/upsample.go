package ops

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Upsample doubles height and width by repeating pixels, less one row or column if the result is to be odd:
// that is torch's nearest interpolation to such a size.
//
//	x      [B H W C]
//	result [B 2H 2W C]
type Upsample struct {
	op.Plain
	OddHeight, OddWidth bool
}

func (k Upsample) String() string {
	return fmt.Sprintf("Upsample{oddHeight=%t oddWidth=%t}", k.OddHeight, k.OddWidth)
}
func (k Upsample) Arity() int { return 1 }

func (k Upsample) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) != 4 {
		return nil, op.BadShapes(k, in)
	}
	return tensor.Shape{x[0], 2*x[1] - op.Count(k.OddHeight), 2*x[2] - op.Count(k.OddWidth), x[3]}, nil
}

func (k Upsample) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, from := in[0].F32(), in[0].Shape
	h, w, c := shape[1], shape[2], shape[3]
	for p := range op.Rows(shape) {
		b, y, xx := p/(h*w), p/w%h, p%w
		at := ((b*from[1]+y/2)*from[2] + xx/2) * c
		copy(out[p*c:][:c], x[at:])
	}
}

func (k Upsample) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

func (k Upsample) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return op.Elementwise("upsample", out, in, func(p *op.ElementwiseParams) {
		p.Height, p.Width = int32(out.Shape[1]), int32(out.Shape[2])
	})
}

// Fuse lets the convolution that follows read the small image.
func (k Upsample) Fuse(next op.Kind, arg int, _ tensor.Shape) op.Kind {
	if c, ok := next.(Conv); ok && arg == 0 && c.Up == 1 && !k.OddHeight && !k.OddWidth {
		c.Up = 2
		return c
	}
	return nil
}
