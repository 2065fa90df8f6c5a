package layers

import (
	"github.com/euryale-ml/euryale/internal/ops"
	"gorgonia.org/tensor"
)

// PoolConfig is a pool. A stride of 0 is the kernel, as torch has it, and a dilation of 0 is 1.
type PoolConfig struct {
	Kernel   HW // of a sequence W alone
	Stride   HW
	Dilation HW    // of MaxPool alone
	Pad      Sides // at most half the kernel
}

func (c PoolConfig) window(x tensor.Shape) ops.Window {
	if len(x) == 3 {
		c.Kernel = c.Kernel.or(HW{H: 1})
	}
	return window(c.Kernel, c.Stride.or(c.Kernel), c.Dilation, c.Pad)
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
		return f.apply(name, ops.Pool{})
	}
	return f.apply(name, ops.Pool{Window: cfg.window(f.n.Shape()), Average: average})
}

// AdaptiveAverage cuts an image into h times w parts, or a sequence into w and h is 1, and is the mean of each.
//
//	x      [B H W C]  or [B L C]
//	result [B h w C]  or [B w C]
func (f Flow) AdaptiveAverage(h, w int) Flow {
	return f.apply("adaptive_average", ops.AdaptiveAverage{H: h, W: w})
}

// GlobalAverage is the mean of all pixels or positions.
//
//	x      [B H W C]  or [B L C]
//	result [B 1 1 C]  or [B 1 C]
func (f Flow) GlobalAverage() Flow { return f.AdaptiveAverage(1, 1) }
