package layers

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// pool is torch's MaxPool2d and AvgPool2d, and those of sequences: the largest number of each window, NaN if there is
// one, or its mean, of which padding is a part (count_include_pad).
//
//	x      [B H W C]    or [B L C]
//	result [B H' W' C]  or [B L' C]   as of convWindow
type pool struct {
	plain
	window
	Average bool
}

func (k pool) String() string {
	return fmt.Sprintf("Pool{kernel=%v stride=%v dilation=%v pad=%v average=%t}",
		k.Kernel, k.Stride, k.Dilation, k.Pad, k.Average)
}

func (k pool) Arity() int { return 1 }

func (k pool) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) != 3 && len(x) != 4 {
		return nil, misfit(k, in, "x [B H W C] or [B L C]")
	}
	if wrong := k.Wrong(len(x) == 3); wrong != "" {
		return nil, misfit(k, in, "%s", wrong)
	}
	if k.Average && k.Dilation != Square(1) {
		return nil, misfit(k, in, "no dilation of an average")
	}
	// As torch demands: without a dilation every window sees a number.
	if h, w := k.Kernel.H/2, k.Kernel.W/2; max(k.Pad.Top, k.Pad.Bottom) > h || max(k.Pad.Left, k.Pad.Right) > w {
		return nil, misfit(k, in, "a padding of at most half the kernel, %d and %d", h, w)
	}
	return k.result(k, in, last(x))
}

func (k pool) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x := in[0].F32()
	c := last(shape)
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

func (k pool) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if k.Average {
		p.AveragePool(out.F32(), in[0].F32(), k.over(in[0].Shape))
		return
	}
	p.MaxPool(out.F32(), in[0].F32(), k.over(in[0].Shape))
}

func (k pool) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	name := "pool_max"
	if k.Average {
		name = "pool_average"
	}
	return k.params(out, in[0]).perResult(name, out), nil
}

// adaptiveAverage is torch's AdaptiveAvgPool2d: an image is cut into h times w parts, a sequence into w, of which each
// is the mean of its numbers. Part i of n begins at i*size/n rounded down and ends at (i+1)*size/n rounded up.
//
//	x      [B H W C]  or [B L C]
//	result [B h w C]  or [B w C]
type adaptiveAverage struct {
	plain
	H, W int
}

func (k adaptiveAverage) String() string { return fmt.Sprintf("AdaptiveAverage{h=%d w=%d}", k.H, k.W) }
func (k adaptiveAverage) Arity() int     { return 1 }

func (k adaptiveAverage) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	switch {
	case k.H < 1 || k.W < 1:
		return nil, misfit(k, in, "at least one part")
	case len(x) == 4:
		return tensor.Shape{x[0], k.H, k.W, x[3]}, nil
	case len(x) == 3 && k.H == 1:
		return tensor.Shape{x[0], k.W, x[2]}, nil
	}
	return nil, misfit(k, in, "x [B H W C], or [B L C] and h 1")
}

func (k adaptiveAverage) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), last(shape)
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

func (k adaptiveAverage) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	b, h, w, c := extent(in[0].Shape)
	p.AdaptiveAverage(out.F32(), in[0].F32(), b, h, w, c, k.H, k.W)
}

func (k adaptiveAverage) Device(_ device.Kernels, out device.Arg, in []device.Arg,
	_ device.Ptr) ([]device.Kernel, error) {
	return window{}.params(out, in[0]).perResult("pool_adaptive", out), nil
}

// PoolConfig is a pool. A stride of 0 is the kernel, as torch has it, and a dilation of 0 is 1.
type PoolConfig struct {
	Kernel   HW // of a sequence W alone
	Stride   HW
	Dilation HW    // of MaxPool alone
	Pad      Sides // at most half the kernel
}

func (c PoolConfig) window(x tensor.Shape) window {
	if len(x) == 3 {
		c.Kernel = c.Kernel.or(HW{H: 1})
	}
	return window{c.Kernel, c.Stride.or(c.Kernel), c.Dilation.or(Square(1)), c.Pad.padding()}
}

// MaxPool is the largest number of each window.
//
//	x      [B H W C]    or [B L C]
//	result [B H' W' C]  or [B L' C]   H' = (H + padding - (KH-1) dilation - 1)/stride + 1
func (f Flow) MaxPool(cfg PoolConfig) Flow { return f.pool("max_pool", cfg, false) }

// AveragePool is the mean of each window, where padding counts as zeros.
//
//	x      [B H W C]    or [B L C]
//	result [B H' W' C]  or [B L' C]   H' = (H + padding - KH)/stride + 1
func (f Flow) AveragePool(cfg PoolConfig) Flow { return f.pool("average_pool", cfg, true) }

func (f Flow) pool(name string, cfg PoolConfig, average bool) Flow {
	if f.err != nil || f.n == nil {
		return f.apply(name, pool{})
	}
	return f.apply(name, pool{window: cfg.window(f.n.Shape()), Average: average})
}

// AdaptiveAverage cuts an image into h times w parts, or a sequence into w and h is 1, and is the mean of each.
//
//	x      [B H W C]  or [B L C]
//	result [B h w C]  or [B w C]
func (f Flow) AdaptiveAverage(h, w int) Flow {
	return f.apply("adaptive_average", adaptiveAverage{H: h, W: w})
}

// GlobalAverage is the mean of all pixels or positions.
//
//	x      [B H W C]  or [B L C]
//	result [B 1 1 C]  or [B 1 C]
func (f Flow) GlobalAverage() Flow { return f.AdaptiveAverage(1, 1) }
