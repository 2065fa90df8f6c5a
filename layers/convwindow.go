package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// convWindow is torch's Conv2d, and its Conv1d over sequences, in general. What UNets have of it is conv, which takes
// more into one kernel.
//
//	x      [B H W In]             or [B L In]
//	w      [Out In/groups KH KW]  or [Out In/groups K]
//	bias   [Out]                  if bias
//	result [B H' W' Out]          or [B L' Out]
//
// with H' = (H + padding - (KH-1) dilation - 1)/stride + 1, and W' and L' likewise.
type convWindow struct {
	plain
	window // its kernel is that of w
	Groups int
	Bias   bool
}

func (k convWindow) String() string {
	return fmt.Sprintf("ConvWindow{kernel=%v stride=%v dilation=%v pad=%v groups=%d bias=%t}",
		k.Kernel, k.Stride, k.Dilation, k.Pad, k.Groups, k.Bias)
}

func (k convWindow) Arity() int { return 2 + b2i(k.Bias) }

func (k convWindow) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if wrong := k.Wrong(len(x) == 3); wrong != "" {
		return nil, misfit(k, in, "%s", wrong)
	}
	if k.Groups < 1 || len(x) != 3 && len(x) != 4 || last(x)%k.Groups != 0 {
		return nil, misfit(k, in, "x [B H W In] or [B L In], In a multiple of the %d groups", k.Groups)
	}
	want := tensor.Shape{0, last(x) / k.Groups, k.Kernel.H, k.Kernel.W}
	if len(x) == 3 {
		want = tensor.Shape{0, last(x) / k.Groups, k.Kernel.W}
	}
	if len(w) != len(want) || !w[1:].Eq(want[1:]) || w[0]%k.Groups != 0 {
		return nil, misfit(k, in, "w [Out %v, Out a multiple of the %d groups", fmt.Sprint([]int(want[1:]))[1:], k.Groups)
	}
	if k.Bias && !in[2].Eq(tensor.Shape{w[0]}) {
		return nil, misfit(k, in, "bias [%d]", w[0])
	}
	return k.result(k, in, w[0])
}

func (k convWindow) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, w := in[0].F32(), in[1].F32()
	n, deep := last(shape), last(in[0].Shape)/k.Groups
	for m := range rows(shape) {
		for co := range n {
			var sum float64
			for c := range deep {
				k.each(in[0].Shape, shape, m, co/(n/k.Groups)*deep+c, func(at, ky, kx int) {
					sum += float64(x[at]) * float64(w[((co*deep+c)*k.Kernel.H+ky)*k.Kernel.W+kx])
				})
			}
			if k.Bias {
				sum += float64(in[2].F32()[co])
			}
			out[m*n+co] = float32(sum)
		}
	}
}

func (k convWindow) Layout(i int) program.Layout {
	if i == 1 {
		return program.ConvPanels
	}
	return program.Plain
}

func (k convWindow) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	var bias []float32
	if k.Bias {
		bias = in[2].F32()
	}
	p.ConvWindow(out.F32(), in[0].F32(), k.over(in[0].Shape), in[1].Panels(), k.Groups, bias)
}

func (k convWindow) DeviceLayout(i int) program.Layout {
	if i == 1 {
		return program.Taps
	}
	return program.Plain
}

func (k convWindow) Float(i int) bool { return i == 2 }

// short reports that the tensor cores' kernels, which keep places of pixels in 16 bits, have them for images this large.
func (w window) short(x tensor.Shape) bool {
	s := w.over(x)
	return max(s.H+s.PadTop+s.PadBottom, s.W+s.PadLeft+s.PadRight) < 1<<15
}

// product is the same as a convolution that the kernels of matrix products take, if it is one: of one group, without
// dilation, one stride. A sequence is an image of one row, whose stride down does not matter.
func (k convWindow) product(out device.Arg, in []device.Arg) (c conv, args []device.Arg, image device.Arg, ok bool) {
	stride := k.Stride
	if len(in[0].Shape) == 3 {
		stride.H = stride.W
	}
	s := k.over(in[0].Shape)
	if k.Groups != 1 || k.Dilation != Square(1) || stride.H != stride.W || !k.short(in[0].Shape) {
		return c, nil, image, false
	}
	args = []device.Arg{in[0], in[1], {}} // the product has a place for the bias, which may be null
	args[0].Shape = tensor.Shape{s.B, s.H, s.W, s.C}
	args[1].Shape = tensor.Shape{in[1].Shape[0], in[1].Shape[1], s.KH, s.KW}
	if k.Bias {
		args[2] = in[2]
	}
	image = out
	h, w := s.Out()
	image.Shape = tensor.Shape{s.B, h, w, last(out.Shape)}
	return conv{Stride: stride.W, Up: 1, Pad: k.Pad}, args, image, true
}

func (k convWindow) Scratch(dev device.Kernels, out device.Arg, in []device.Arg) int {
	if c, args, image, ok := k.product(out, in); ok {
		return c.Scratch(dev, image, args)
	}
	return 0
}

func (k convWindow) Device(dev device.Kernels, out device.Arg, in []device.Arg,
	scratch device.Ptr) ([]device.Kernel, error) {
	if c, args, image, ok := k.product(out, in); ok {
		return c.Device(dev, image, args, scratch)
	}
	p := k.params(out, in[0])
	p.w, p.groups = in[1].Ptr, int32(k.Groups)
	if k.Bias {
		p.bias = in[2].Ptr
	}
	n := last(out.Shape)
	if k.Groups == n && k.Groups == last(in[0].Shape) {
		return p.perResult("conv_depthwise", out), nil
	}
	l := launch("conv_window", out.DType, p, ceil(rows(out.Shape), 64)*ceil(n/k.Groups, 64), 256, 2*16*68*4)
	l.Grid[1] = k.Groups
	return []device.Kernel{l}, nil
}

func (k convWindow) FLOPs(out tensor.Shape, in []tensor.Shape) int64 {
	return 2 * int64(rows(out)) * int64(in[1].TotalSize())
}

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
		k := convWindow{Groups: max(cfg.Groups, b2i(cfg.Groups == 0)), Bias: !cfg.NoBias}
		k.window = window{cfg.Kernel, cfg.Stride.or(Square(1)), cfg.Dilation.or(Square(1)), cfg.Pad.padding()}
		shape := []int{cfg.Out, in / max(1, k.Groups), cfg.Kernel.H, cfg.Kernel.W}
		if sequence {
			k.Kernel = k.Kernel.or(HW{H: 1})
			shape = []int{cfg.Out, in / max(1, k.Groups), cfg.Kernel.W}
		}
		if wrong := k.Wrong(sequence); wrong != "" {
			return nil, misfit(k, []tensor.Shape{x.Shape(), shape}, "%s", wrong)
		}
		if cfg.Out < 1 || k.Groups < 1 {
			return nil, misfit(k, []tensor.Shape{x.Shape(), shape}, "at least one output and one group")
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

// Simple is the conv that does the same, which fuses with what comes before and after it.
func (k convWindow) Simple(x tensor.Shape) (conv, bool) {
	ok := len(x) == 4 && k.short(x) && k.Bias && k.Groups == 1 && k.Dilation == Square(1) && k.Stride.H == k.Stride.W
	return conv{Stride: k.Stride.W, Up: 1, Pad: k.Pad}, ok
}
