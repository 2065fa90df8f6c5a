package layers

import (
	"github.com/euryale-ml/euryale/internal/ops"
	"github.com/euryale-ml/euryale/internal/ops/op"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// ConvConfig is a convolution. A stride, a dilation or groups of 0 are 1.
type ConvConfig struct {
	Out      int
	Kernel   HW // of a sequence W alone
	Stride   HW
	Dilation HW // how far neighbours in the filter are apart
	Pad      Sides
	Groups   int // In and Out are cut into as many parts, of which each sees its own; In: a filter for each channel
	NoBias   bool
}

// ConvWindow is torch's Conv2d, or Conv1d of a sequence: weights name.weight [Out In/Groups KH KW], or [Out In/Groups
// K], and name.bias [Out].
//
//	x      [B H W In]     or [B L In]
//	result [B H' W' Out]  or [B L' Out]
func (f Flow) ConvWindow(name string, cfg ConvConfig) Flow {
	in := f.width()
	return f.Then(name, func(s Scope, x *G.Node) (*G.Node, error) {
		sequence := len(x.Shape()) == 3
		k := ops.ConvWindow{Groups: max(cfg.Groups, op.Count(cfg.Groups == 0)), Bias: !cfg.NoBias}
		k.Window = window(cfg.Kernel, cfg.Stride.or(Square(1)), cfg.Dilation, cfg.Pad)
		shape := []int{cfg.Out, in / max(1, k.Groups), cfg.Kernel.H, cfg.Kernel.W}
		if sequence {
			k.Kernel = ops.HW(cfg.Kernel.or(HW{H: 1}))
			shape = []int{cfg.Out, in / max(1, k.Groups), cfg.Kernel.W}
		}
		if wrong := k.Wrong(sequence); wrong != "" {
			return nil, op.Misfit(k, []tensor.Shape{x.Shape(), shape}, "%s", wrong)
		}
		if cfg.Out < 1 || k.Groups < 1 {
			return nil, op.Misfit(k, []tensor.Shape{x.Shape(), shape}, "at least one output and one group")
		}
		args := []*G.Node{x, s.Weight("weight", shape...)}
		if k.Bias {
			args = append(args, s.Weight("bias", cfg.Out))
		}
		if c, ok := k.Simple(x.Shape()); ok {
			return apply(s, c, args...)
		}
		return apply(s, k, args...)
	})
}
