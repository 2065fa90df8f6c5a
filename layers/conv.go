package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// padding is rows and columns of zeros around an image.
type padding struct{ top, left, bottom, right int }

// conv is a two-dimensional convolution (cross-correlation, as torch's Conv2d), then per-image channel
// offsets, an activation and a residual.
//
//	x        [B H W In]
//	w        [Out In KH KW]
//	bias     [Out]
//	channels [B Out]        if channels
//	residual [B H' W' Out]  if residual
//	result   [B H' W' Out]  H' = (up*H + pad - KH)/stride + 1
//
// up is 2 if x is first enlarged twofold by repeating pixels, else 1.
type conv struct {
	plain
	stride, up         int
	pad                padding
	channels, residual bool
	act                activation
}

func (k conv) String() string {
	return fmt.Sprintf("Conv{stride=%d up=%d pad=%v channels=%t residual=%t act=%v}",
		k.stride, k.up, k.pad, k.channels, k.residual, k.act)
}

func (k conv) arity() int { return 3 + b2i(k.channels, k.residual) }

func (k conv) infer(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if len(x) != 4 || len(w) != 4 || x[3] != w[1] || !in[2].Eq(tensor.Shape{w[0]}) {
		return nil, shapeError(k, in)
	}
	s := k.geometry(x, w)
	h, wd := s.Out()
	out := tensor.Shape{x[0], h, wd, w[0]}
	if h < 1 || wd < 1 || k.channels && !in[3].Eq(tensor.Shape{x[0], w[0]}) || k.residual && !in[len(in)-1].Eq(out) {
		return nil, shapeError(k, in)
	}
	return out, nil
}

func (k conv) geometry(x, w tensor.Shape) cpu.ConvShape {
	return cpu.ConvShape{
		B: x[0], H: x[1], W: x[2], Cin: x[3], Cout: w[0], KH: w[2], KW: w[3], Stride: k.stride, Upsample: k.up,
		PadTop: k.pad.top, PadLeft: k.pad.left, PadBottom: k.pad.bottom, PadRight: k.pad.right,
	}
}

func (k conv) define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, w, bias := in[0].F32(), in[1].F32(), in[2].F32()
	h, wd, ci := in[0].Shape[1], in[0].Shape[2], in[0].Shape[3]
	kh, kw := in[1].Shape[2], in[1].Shape[3]
	y := make([]float32, shape[3])
	for p := range rows(shape) {
		b, oy, ox := p/(shape[1]*shape[2]), p/shape[2]%shape[1], p%shape[2]
		for co := range y {
			sum := float64(bias[co])
			for ky := range kh {
				for kx := range kw {
					iy, ix := oy*k.stride+ky-k.pad.top, ox*k.stride+kx-k.pad.left
					if iy < 0 || iy >= k.up*h || ix < 0 || ix >= k.up*wd {
						continue
					}
					at := ((b*h+iy/k.up)*wd + ix/k.up) * ci
					for c := range ci {
						sum += float64(x[at+c]) * float64(w[((co*ci+c)*kh+ky)*kw+kx])
					}
				}
			}
			if k.channels {
				sum += float64(in[3].F32()[b*shape[3]+co])
			}
			y[co] = float32(sum)
		}
		row := out[p*shape[3]:][:shape[3]]
		k.act.define(row, y)
		if k.residual {
			for co, v := range in[len(in)-1].F32()[p*shape[3]:][:shape[3]] {
				row[co] += v
			}
		}
	}
}

func (k conv) Layout(i int) program.Layout {
	if i == 1 {
		return program.ConvPanels
	}
	return program.Plain
}

func (k conv) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	ep := cpu.Epilogue{Bias: in[2].F32(), Act: cpu.Activation(k.act)}
	if k.channels {
		ep.Channels, ep.ChannelsStride = in[3].F32(), rows(out.Shape)/out.Shape[0]
	}
	if k.residual {
		ep.Residual = in[len(in)-1].F32()
	}
	p.Conv(out.F32(), in[0].F32(), k.geometry(in[0].Shape, in[1].Shape), in[1].Panels(), ep)
}

func (k conv) DeviceLayout(i int) program.Layout {
	if i == 1 {
		return program.Taps
	}
	return program.Plain
}

func (k conv) Float(i int) bool { return i == 2 }

func (k conv) params(out device.Arg, in []device.Arg) *gemmParams {
	x, w, o := in[0].Shape, in[1].Shape, out.Shape
	p := &gemmParams{x: in[0].Ptr, w: in[1].Ptr, bias: in[2].Ptr, out: out.Ptr, act: int32(k.act),
		m: int32(rows(o)), n: int32(w[0]), k: int32(w.TotalSize() / w[0]),
		height: int32(x[1]), width: int32(x[2]), channels: int32(x[3]), kh: int32(w[2]), kw: int32(w[3]),
		stride: int32(k.stride), up: int32(k.up), padTop: int32(k.pad.top), padLeft: int32(k.pad.left),
		outWidth: int32(o[2]), outPixels: int32(o[1] * o[2])}
	if k.channels {
		p.offsets = in[3].Ptr
	}
	if k.residual {
		p.residual = in[len(in)-1].Ptr
	}
	return p
}

func (k conv) Scratch(dev device.Kernels, out device.Arg, in []device.Arg) int {
	return gemmScratch(dev, k.params(out, in), last(in[0].Shape), out)
}

func (k conv) Device(dev device.Kernels, out device.Arg, in []device.Arg, scratch device.Ptr) ([]device.Kernel, error) {
	p, name := k.params(out, in), "conv"
	if p.kh*p.kw*p.stride*p.up == 1 && k.pad == (padding{}) {
		name = "linear" // a pixel is a row
	}
	return gemm(dev, name, p, last(in[0].Shape), out, scratch)
}

func (k conv) FLOPs(out tensor.Shape, in []tensor.Shape) int64 {
	return 2 * int64(rows(out)) * int64(in[1].TotalSize())
}

func (k conv) InPlace() []int {
	if k.residual {
		return []int{k.arity() - 1}
	}
	return nil
}

func (k conv) fuse(next kind, arg int, _ tensor.Shape) kind {
	switch n := next.(type) {
	case addChannels:
		if arg == 0 && !k.channels && !k.residual && k.act == none {
			k.channels = true
			return k
		}
	case activate:
		if k.act == none && !k.residual && n.act != geglu {
			k.act = n.act
			return k
		}
	case add:
		if !k.residual {
			k.residual = true
			return k
		}
	}
	return nil
}
