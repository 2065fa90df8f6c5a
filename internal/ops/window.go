package ops

import (
	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"gorgonia.org/tensor"
)

// HW is a number for the height and one for the width. A sequence has a width alone.
type HW struct{ H, W int }

// Square is the same for both.
func Square(n int) HW { return HW{n, n} }

// Window is where a filter or a pool looks. All numbers are set; of a sequence it looks at one row.
type Window struct {
	Kernel, Stride, Dilation HW
	Pad                      Padding
}

// extent is an image of a shape [B H W C] or a sequence [B L C], which is an image of one row.
func extent(x tensor.Shape) (b, h, w, c int) {
	if len(x) == 3 {
		return x[0], 1, x[1], x[2]
	}
	return x[0], x[1], x[2], x[3]
}

// Wrong says what is the matter with the numbers alone.
func (w Window) Wrong(sequence bool) string {
	least := func(n HW, from int) bool { return n.H >= from && n.W >= from }
	switch p := w.Pad; {
	case !least(w.Kernel, 1):
		return "a kernel of at least one number"
	case !least(w.Stride, 1) || !least(w.Dilation, 1):
		return "strides and dilations of at least 1"
	case min(p.Top, p.Left, p.Bottom, p.Right) < 0:
		return "a padding that is not negative"
	case sequence && (w.Kernel.H != 1 || p.Top != 0 || p.Bottom != 0):
		return "a kernel of width alone, and padding left and right, of a sequence [B L C]"
	}
	return ""
}

// over is the window over images or sequences x.
func (w Window) over(x tensor.Shape) cpu.Window {
	s := cpu.Window{KH: w.Kernel.H, KW: w.Kernel.W, StrideH: w.Stride.H, StrideW: w.Stride.W,
		DilationH: w.Dilation.H, DilationW: w.Dilation.W,
		PadTop: w.Pad.Top, PadLeft: w.Pad.Left, PadBottom: w.Pad.Bottom, PadRight: w.Pad.Right}
	s.B, s.H, s.W, s.C = extent(x)
	return s
}

// result is the shape of one vector of c numbers per window over x.
func (w Window) result(k op.Kind, in []tensor.Shape, c int) (tensor.Shape, error) {
	x := in[0]
	h, wd := w.over(x).Out()
	if h < 1 || wd < 1 {
		return nil, op.Misfit(k, in, "x with its padding at least %d high and %d wide, as the window is",
			(w.Kernel.H-1)*w.Dilation.H+1, (w.Kernel.W-1)*w.Dilation.W+1)
	}
	if len(x) == 3 {
		return tensor.Shape{x[0], wd, c}, nil
	}
	return tensor.Shape{x[0], h, wd, c}, nil
}

// each calls see for every number of x that output pixel m sees in channel c, with its place in the kernel.
func (w Window) each(x, out tensor.Shape, m, c int, see func(at, ky, kx int)) {
	_, h, wd, ci := extent(x)
	_, oh, ow, _ := extent(out)
	b, oy, ox := m/(oh*ow), m/ow%oh, m%ow
	for ky := range w.Kernel.H {
		for kx := range w.Kernel.W {
			iy, ix := oy*w.Stride.H+ky*w.Dilation.H-w.Pad.Top, ox*w.Stride.W+kx*w.Dilation.W-w.Pad.Left
			if iy >= 0 && iy < h && ix >= 0 && ix < wd {
				see(((b*h+iy)*wd+ix)*ci+c, ky, kx)
			}
		}
	}
}

// windowParams is WindowParams of window.cu.
type windowParams struct {
	x, w, bias, out                                                                 device.Ptr
	results                                                                         int64
	height, width, channels, outHeight, outWidth, outChannels                       int32
	kh, kw, strideH, strideW, dilationH, dilationW, padTop, padLeft, groups, unused int32
}

// params is of a window over x.
func (w Window) params(out, x device.Arg) *windowParams {
	_, h, wd, c := extent(x.Shape)
	_, oh, ow, oc := extent(out.Shape)
	return &windowParams{x: x.Ptr, out: out.Ptr, results: int64(out.Shape.TotalSize()),
		height: int32(h), width: int32(wd), channels: int32(c),
		outHeight: int32(oh), outWidth: int32(ow), outChannels: int32(oc), kh: int32(w.Kernel.H), kw: int32(w.Kernel.W),
		strideH: int32(w.Stride.H), strideW: int32(w.Stride.W),
		dilationH: int32(w.Dilation.H), dilationW: int32(w.Dilation.W),
		padTop: int32(w.Pad.Top), padLeft: int32(w.Pad.Left), groups: 1}
}

// perResult launches a kernel that computes one result per thread.
func (p *windowParams) perResult(name string, out device.Arg) []device.Kernel {
	return []device.Kernel{op.Launch(name, out.DType, p, blocks(out.Shape.TotalSize()), 256, 0)}
}
