package ops

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// ConvWindow is torch's Conv2d, and its Conv1d over sequences, in general. What UNets have of it is Conv, which takes
// more into one kernel.
//
//	x      [B H W In]             or [B L In]
//	w      [Out In/Groups KH KW]  or [Out In/Groups K]
//	bias   [Out]                  if Bias
//	result [B H' W' Out]          or [B L' Out]
//
// with H' = (H + padding - (KH-1) Dilation - 1)/Stride + 1, and W' and L' likewise.
type ConvWindow struct {
	op.Plain
	Window // its kernel is that of w
	Groups int
	Bias   bool
}

func (k ConvWindow) String() string {
	return fmt.Sprintf("ConvWindow{kernel=%v stride=%v dilation=%v pad=%v groups=%d bias=%t}",
		k.Kernel, k.Stride, k.Dilation, k.Pad, k.Groups, k.Bias)
}

func (k ConvWindow) Arity() int { return 2 + op.Count(k.Bias) }

func (k ConvWindow) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if wrong := k.Wrong(len(x) == 3); wrong != "" {
		return nil, op.Misfit(k, in, "%s", wrong)
	}
	if k.Groups < 1 || len(x) != 3 && len(x) != 4 || op.Last(x)%k.Groups != 0 {
		return nil, op.Misfit(k, in, "x [B H W In] or [B L In], In a multiple of the %d groups", k.Groups)
	}
	want := tensor.Shape{0, op.Last(x) / k.Groups, k.Kernel.H, k.Kernel.W}
	if len(x) == 3 {
		want = tensor.Shape{0, op.Last(x) / k.Groups, k.Kernel.W}
	}
	if len(w) != len(want) || !w[1:].Eq(want[1:]) || w[0]%k.Groups != 0 {
		return nil, op.Misfit(k, in, "w [Out %v, Out a multiple of the %d groups", fmt.Sprint([]int(want[1:]))[1:], k.Groups)
	}
	if k.Bias && !in[2].Eq(tensor.Shape{w[0]}) {
		return nil, op.Misfit(k, in, "bias [%d]", w[0])
	}
	return k.result(k, in, w[0])
}

func (k ConvWindow) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, w := in[0].F32(), in[1].F32()
	n, deep := op.Last(shape), op.Last(in[0].Shape)/k.Groups
	for m := range op.Rows(shape) {
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

func (k ConvWindow) Layout(i int) program.Layout {
	if i == 1 {
		return program.ConvPanels
	}
	return program.Plain
}

func (k ConvWindow) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	var bias []float32
	if k.Bias {
		bias = in[2].F32()
	}
	p.ConvWindow(out.F32(), in[0].F32(), k.over(in[0].Shape), in[1].Panels(), k.Groups, bias)
}

func (k ConvWindow) DeviceLayout(i int) program.Layout {
	if i == 1 {
		return program.Taps
	}
	return program.Plain
}

func (k ConvWindow) Float(i int) bool { return i == 2 }

// short reports that the tensor cores' kernels, which keep places of pixels in 16 bits, have them for images this large.
func (w Window) short(x tensor.Shape) bool {
	s := w.over(x)
	return max(s.H+s.PadTop+s.PadBottom, s.W+s.PadLeft+s.PadRight) < 1<<15
}

// product is the same as a convolution that the kernels of matrix products take, if it is one: of one group, without
// dilation, one stride. A sequence is an image of one row, whose stride down does not matter.
func (k ConvWindow) product(out device.Arg, in []device.Arg) (c Conv, args []device.Arg, image device.Arg, ok bool) {
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
	image.Shape = tensor.Shape{s.B, h, w, op.Last(out.Shape)}
	return Conv{Stride: stride.W, Up: 1, Pad: k.Pad}, args, image, true
}

func (k ConvWindow) Scratch(dev device.Kernels, out device.Arg, in []device.Arg) int {
	if c, args, image, ok := k.product(out, in); ok {
		return c.Scratch(dev, image, args)
	}
	return 0
}

func (k ConvWindow) Device(dev device.Kernels, out device.Arg, in []device.Arg,
	scratch device.Ptr) ([]device.Kernel, error) {
	if c, args, image, ok := k.product(out, in); ok {
		return c.Device(dev, image, args, scratch)
	}
	p := k.params(out, in[0])
	p.w, p.groups = in[1].Ptr, int32(k.Groups)
	if k.Bias {
		p.bias = in[2].Ptr
	}
	n := op.Last(out.Shape)
	if k.Groups == n && k.Groups == op.Last(in[0].Shape) {
		return p.perResult("conv_depthwise", out), nil
	}
	l := op.Launch("conv_window", out.DType, p, op.Ceil(op.Rows(out.Shape), 64)*op.Ceil(n/k.Groups, 64), 256, 2*16*68*4)
	l.Grid[1] = k.Groups
	return []device.Kernel{l}, nil
}

func (k ConvWindow) FLOPs(out tensor.Shape, in []tensor.Shape) int64 {
	return 2 * int64(op.Rows(out)) * int64(in[1].TotalSize())
}

// Simple is the Conv that does the same, which fuses with what comes before and after it.
func (k ConvWindow) Simple(x tensor.Shape) (Conv, bool) {
	ok := len(x) == 4 && k.short(x) && k.Bias && k.Groups == 1 && k.Dilation == Square(1) && k.Stride.H == k.Stride.W
	return Conv{Stride: k.Stride.W, Up: 1, Pad: k.Pad}, ok
}
