package ops

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Pool is torch's MaxPool2d and AvgPool2d, and those of sequences: the largest number of each window, NaN if there is
// one, or its mean, of which padding is a part (count_include_pad).
//
//	x      [B H W C]    or [B L C]
//	result [B H' W' C]  or [B L' C]   as of ConvWindow
type Pool struct {
	op.Plain
	Window
	Average bool
}

func (k Pool) String() string {
	return fmt.Sprintf("Pool{kernel=%v stride=%v dilation=%v pad=%v average=%t}",
		k.Kernel, k.Stride, k.Dilation, k.Pad, k.Average)
}

func (k Pool) Arity() int { return 1 }

func (k Pool) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) != 3 && len(x) != 4 {
		return nil, op.Misfit(k, in, "x [B H W C] or [B L C]")
	}
	if wrong := k.Wrong(len(x) == 3); wrong != "" {
		return nil, op.Misfit(k, in, "%s", wrong)
	}
	if k.Average && k.Dilation != Square(1) {
		return nil, op.Misfit(k, in, "no dilation of an average")
	}
	// As torch demands: without a dilation every window sees a number.
	if h, w := k.Kernel.H/2, k.Kernel.W/2; max(k.Pad.Top, k.Pad.Bottom) > h || max(k.Pad.Left, k.Pad.Right) > w {
		return nil, op.Misfit(k, in, "a padding of at most half the kernel, %d and %d", h, w)
	}
	return k.result(k, in, op.Last(x))
}

func (k Pool) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x := in[0].F32()
	c := op.Last(shape)
	for i := range out {
		sum, most := 0.0, math.Inf(-1)
		k.each(in[0].Shape, shape, i/c, i%c, func(at, _, _ int) {
			sum += float64(x[at])
			most = max(most, float64(x[at])) // NaN if either is
		})
		if k.Average {
			most = sum / float64(k.Kernel.H*k.Kernel.W)
		}
		out[i] = float32(most)
	}
}

func (k Pool) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if k.Average {
		p.AveragePool(out.F32(), in[0].F32(), k.over(in[0].Shape))
		return
	}
	p.MaxPool(out.F32(), in[0].F32(), k.over(in[0].Shape))
}

func (k Pool) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	name := "pool_max"
	if k.Average {
		name = "pool_average"
	}
	return k.params(out, in[0]).perResult(name, out), nil
}

// AdaptiveAverage is torch's AdaptiveAvgPool2d: an image is cut into h times w parts, a sequence into w, of which each
// is the mean of its numbers. Part i of n begins at i*size/n rounded down and ends at (i+1)*size/n rounded up.
//
//	x      [B H W C]  or [B L C]
//	result [B h w C]  or [B w C]
type AdaptiveAverage struct {
	op.Plain
	H, W int
}

func (k AdaptiveAverage) String() string { return fmt.Sprintf("AdaptiveAverage{h=%d w=%d}", k.H, k.W) }
func (k AdaptiveAverage) Arity() int     { return 1 }

func (k AdaptiveAverage) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	switch {
	case k.H < 1 || k.W < 1:
		return nil, op.Misfit(k, in, "at least one part")
	case len(x) == 4:
		return tensor.Shape{x[0], k.H, k.W, x[3]}, nil
	case len(x) == 3 && k.H == 1:
		return tensor.Shape{x[0], k.W, x[2]}, nil
	}
	return nil, op.Misfit(k, in, "x [B H W C], or [B L C] and h 1")
}

func (k AdaptiveAverage) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), op.Last(shape)
	_, h, w, _ := extent(in[0].Shape)
	floor := func(i, n, size int) int { return int(math.Floor(float64(i*size) / float64(n))) }
	ceil := func(i, n, size int) int { return int(math.Ceil(float64(i*size) / float64(n))) }
	for i := range out {
		m := i / c
		b, oy, ox := m/(k.H*k.W), m/k.W%k.H, m%k.W
		sum, n := 0.0, 0
		for y := floor(oy, k.H, h); y < ceil(oy+1, k.H, h); y++ {
			for xx := floor(ox, k.W, w); xx < ceil(ox+1, k.W, w); xx++ {
				sum += float64(x[((b*h+y)*w+xx)*c+i%c])
				n++
			}
		}
		out[i] = float32(sum / float64(n))
	}
}

func (k AdaptiveAverage) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	b, h, w, c := extent(in[0].Shape)
	p.AdaptiveAverage(out.F32(), in[0].F32(), b, h, w, c, k.H, k.W)
}

func (k AdaptiveAverage) Device(_ device.Kernels, out device.Arg, in []device.Arg,
	_ device.Ptr) ([]device.Kernel, error) {
	return Window{}.params(out, in[0]).perResult("pool_adaptive", out), nil
}
