// Package ops has the ops that sum: products, convolutions, attention, norms and pools. It also has those of the
// denoising loop, and Upsample, which a convolution can do as it reads. The others are in package elem; package op says
// what an op is. The tests here are of the ops of both packages, from one table.
package ops

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Padding is rows and columns of zeros around an image.
type Padding struct{ Top, Left, Bottom, Right int }

// Conv is a two-dimensional convolution (cross-correlation, as torch's Conv2d), then per-image channel
// offsets, an activation and a residual.
//
//	x        [B H W In]
//	w        [Out In KH KW]
//	bias     [Out]
//	channels [B Out]        if Channels
//	residual [B H' W' Out]  if Residual
//	result   [B H' W' Out]  H' = (Up*H + Pad - KH)/Stride + 1
//
// Up is 2 if x is first enlarged twofold by repeating pixels, else 1.
type Conv struct {
	op.Plain
	Stride, Up         int
	Pad                Padding
	Channels, Residual bool
	Act                op.Activation
}

func (k Conv) String() string {
	return fmt.Sprintf("Conv{stride=%d up=%d pad=%v channels=%t residual=%t act=%v}",
		k.Stride, k.Up, k.Pad, k.Channels, k.Residual, k.Act)
}

func (k Conv) Arity() int { return 3 + op.Count(k.Channels, k.Residual) }

func (k Conv) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if len(x) != 4 || len(w) != 4 || x[3] != w[1] || !in[2].Eq(tensor.Shape{w[0]}) {
		return nil, op.BadShapes(k, in)
	}
	s := k.geometry(x, w)
	h, wd := s.Out()
	out := tensor.Shape{x[0], h, wd, w[0]}
	if h < 1 || wd < 1 || k.Channels && !in[3].Eq(tensor.Shape{x[0], w[0]}) || k.Residual && !in[len(in)-1].Eq(out) {
		return nil, op.BadShapes(k, in)
	}
	return out, nil
}

func (k Conv) geometry(x, w tensor.Shape) cpu.ConvShape {
	return cpu.ConvShape{
		B: x[0], H: x[1], W: x[2], Cin: x[3], Cout: w[0], KH: w[2], KW: w[3], Stride: k.Stride, Upsample: k.Up,
		PadTop: k.Pad.Top, PadLeft: k.Pad.Left, PadBottom: k.Pad.Bottom, PadRight: k.Pad.Right,
	}
}

func (k Conv) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, w, bias := in[0].F32(), in[1].F32(), in[2].F32()
	h, wd, ci := in[0].Shape[1], in[0].Shape[2], in[0].Shape[3]
	kh, kw := in[1].Shape[2], in[1].Shape[3]
	y := make([]float32, shape[3])
	for p := range op.Rows(shape) {
		b, oy, ox := p/(shape[1]*shape[2]), p/shape[2]%shape[1], p%shape[2]
		for co := range y {
			sum := float64(bias[co])
			for ky := range kh {
				for kx := range kw {
					iy, ix := oy*k.Stride+ky-k.Pad.Top, ox*k.Stride+kx-k.Pad.Left
					if iy < 0 || iy >= k.Up*h || ix < 0 || ix >= k.Up*wd {
						continue
					}
					at := ((b*h+iy/k.Up)*wd + ix/k.Up) * ci
					for c := range ci {
						sum += float64(x[at+c]) * float64(w[((co*ci+c)*kh+ky)*kw+kx])
					}
				}
			}
			if k.Channels {
				sum += float64(in[3].F32()[b*shape[3]+co])
			}
			y[co] = float32(sum)
		}
		row := out[p*shape[3]:][:shape[3]]
		k.Act.Define(row, y)
		if k.Residual {
			for co, v := range in[len(in)-1].F32()[p*shape[3]:][:shape[3]] {
				row[co] += v
			}
		}
	}
}

func (k Conv) Layout(i int) program.Layout {
	if i == 1 {
		return program.ConvPanels
	}
	return program.Plain
}

func (k Conv) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	ep := cpu.Epilogue{Bias: in[2].F32(), Act: cpu.Activation(k.Act)}
	if k.Channels {
		ep.Channels, ep.ChannelsStride = in[3].F32(), op.Rows(out.Shape)/out.Shape[0]
	}
	if k.Residual {
		ep.Residual = in[len(in)-1].F32()
	}
	p.Conv(out.F32(), in[0].F32(), k.geometry(in[0].Shape, in[1].Shape), in[1].Panels(), ep)
}

func (k Conv) DeviceLayout(i int) program.Layout {
	if i == 1 {
		return program.Taps
	}
	return program.Plain
}

func (k Conv) Float(i int) bool { return i == 2 }

func (k Conv) params(out device.Arg, in []device.Arg) *gemmParams {
	x, w, o := in[0].Shape, in[1].Shape, out.Shape
	p := &gemmParams{x: in[0].Ptr, w: in[1].Ptr, bias: in[2].Ptr, out: out.Ptr, act: int32(k.Act),
		m: int32(op.Rows(o)), n: int32(w[0]), k: int32(w.TotalSize() / w[0]),
		height: int32(x[1]), width: int32(x[2]), channels: int32(x[3]), kh: int32(w[2]), kw: int32(w[3]),
		stride: int32(k.Stride), up: int32(k.Up), padTop: int32(k.Pad.Top), padLeft: int32(k.Pad.Left),
		outWidth: int32(o[2]), outPixels: int32(o[1] * o[2])}
	if k.Channels {
		p.offsets = in[3].Ptr
	}
	if k.Residual {
		p.residual = in[len(in)-1].Ptr
	}
	return p
}

func (k Conv) Scratch(dev device.Kernels, out device.Arg, in []device.Arg) int {
	return gemmScratch(dev, k.params(out, in), op.Last(in[0].Shape), out)
}

func (k Conv) Device(dev device.Kernels, out device.Arg, in []device.Arg, scratch device.Ptr) ([]device.Kernel, error) {
	p, name := k.params(out, in), "conv"
	if p.kh*p.kw*p.stride*p.up == 1 && k.Pad == (Padding{}) {
		name = "linear" // a pixel is a row
	}
	return gemm(dev, name, p, op.Last(in[0].Shape), out, scratch)
}

func (k Conv) FLOPs(out tensor.Shape, in []tensor.Shape) int64 {
	return 2 * int64(op.Rows(out)) * int64(in[1].TotalSize())
}

func (k Conv) InPlace() []int {
	if k.Residual {
		return []int{k.Arity() - 1}
	}
	return nil
}

func (k Conv) Fuse(next op.Kind, arg int, _ tensor.Shape) op.Kind {
	switch n := next.(type) {
	case elem.AddChannels:
		if arg == 0 && !k.Channels && !k.Residual && k.Act == op.None {
			k.Channels = true
			return k
		}
	case elem.Activate:
		if k.Act == op.None && !k.Residual && n.Act.InEpilogues() && n.Act != op.GEGLU {
			k.Act = n.Act
			return k
		}
	case elem.Add:
		if !k.Residual {
			k.Residual = true
			return k
		}
	}
	return nil
}
