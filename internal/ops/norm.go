package ops

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// GroupNorm normalises each group of channels of each image over its pixels (Wu and He 2018), then scales,
// shifts, and applies SiLU if SiLU is set.
//
//	x           [B ... C]
//	gamma, beta [C]
//	result      [B ... C]
type GroupNorm struct {
	op.Plain
	Groups int
	Eps    float32
	SiLU   bool
}

func (k GroupNorm) String() string {
	return fmt.Sprintf("GroupNorm{groups=%d eps=%g silu=%t}", k.Groups, k.Eps, k.SiLU)
}

func (k GroupNorm) Arity() int     { return 3 }
func (k GroupNorm) InPlace() []int { return []int{0} }

func (k GroupNorm) Infer(in []tensor.Shape) (tensor.Shape, error) {
	c := tensor.Shape{op.Last(in[0])}
	if len(in[0]) < 2 || k.Groups < 1 || c[0]%k.Groups != 0 || !in[1].Eq(c) || !in[2].Eq(c) {
		return nil, op.BadShapes(k, in)
	}
	return op.SameShape(in)
}

func (k GroupNorm) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, gamma, beta := in[0].F32(), in[1].F32(), in[2].F32()
	c := op.Last(shape)
	pixels, width := op.Rows(shape)/shape[0], c/k.Groups
	for b := range shape[0] {
		for g := range k.Groups {
			at := func(p, j int) int { return (b*pixels+p)*c + g*width + j }
			mean, inv := moments(pixels*width, k.Eps, func(i int) float32 { return x[at(i/width, i%width)] })
			for p := range pixels {
				for j := range width {
					i := at(p, j)
					ch := g*width + j
					out[i] = float32((float64(x[i])-mean)*inv)*gamma[ch] + beta[ch]
				}
			}
		}
	}
	if k.SiLU {
		op.SiLU.Define(out, out)
	}
}

func (k GroupNorm) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s := out.Shape
	p.GroupNorm(out.F32(), in[0].F32(), s[0], op.Rows(s)/s[0], op.Last(s), k.Groups, in[1].F32(), in[2].F32(),
		k.Eps, k.SiLU)
}

func (k GroupNorm) Float(i int) bool { return i > 0 }

func (k GroupNorm) Scratch(_ device.Kernels, out device.Arg, _ []device.Arg) int {
	return out.Shape[0] * chunks(out.Shape) * k.Groups * 8
}

func (k GroupNorm) Device(_ device.Kernels, out device.Arg, in []device.Arg,
	scratch device.Ptr) ([]device.Kernel, error) {
	s, c, n := out.Shape, op.Last(out.Shape), chunks(out.Shape)
	p := &groupNormParams{x: in[0].Ptr, gamma: in[1].Ptr, beta: in[2].Ptr, partial: scratch, out: out.Ptr,
		pixels: int32(op.Rows(s) / s[0]), channels: int32(c), groups: int32(k.Groups), chunks: int32(n),
		silu: int32(op.Count(k.SiLU)), eps: k.Eps}
	packs := c
	if wide := 16 / out.DType.Size(); c%wide == 0 {
		packs = c / wide // a thread has as many channels
	}
	sums := op.Launch("group_norm_sums", out.DType, p, n, 256, 8*max(1, 256/packs)*c)
	norm := op.Launch("group_norm", out.DType, p, n, 256, 8*k.Groups)
	sums.Grid[1], norm.Grid[1] = s[0], s[0]
	return []device.Kernel{sums, norm}, nil
}

func (k GroupNorm) Fuse(next op.Kind, _ int, _ tensor.Shape) op.Kind {
	if a, ok := next.(elem.Activate); ok && a.Act == op.SiLU && !k.SiLU {
		k.SiLU = true
		return k
	}
	return nil
}

// LayerNorm normalises each vector of the last dimension (Ba et al. 2016), then scales and shifts unless Bare.
//
//	x           [... C]
//	gamma, beta [C]       unless Bare
//	result      [... C]
type LayerNorm struct {
	op.Plain
	Eps  float32
	Bare bool
}

func (k LayerNorm) String() string { return fmt.Sprintf("LayerNorm{eps=%g bare=%t}", k.Eps, k.Bare) }
func (k LayerNorm) Arity() int     { return 3 - 2*op.Count(k.Bare) }
func (k LayerNorm) InPlace() []int { return []int{0} }

func (k LayerNorm) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if k.Bare {
		if len(in[0]) == 0 {
			return nil, op.WrongShape(k, "x", in[0], "[... C]")
		}
		return op.SameShape(in)
	}
	c := tensor.Shape{op.Last(in[0])}
	if !in[1].Eq(c) || !in[2].Eq(c) {
		return nil, op.BadShapes(k, in)
	}
	return op.SameShape(in)
}

func (k LayerNorm) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), op.Last(shape)
	gamma, beta := k.affine(in)
	for r := range op.Rows(shape) {
		row := x[r*c:][:c]
		mean, inv := moments(c, k.Eps, func(i int) float32 { return row[i] })
		for j, v := range row {
			out[r*c+j] = float32((float64(v) - mean) * inv)
			if !k.Bare {
				out[r*c+j] = out[r*c+j]*gamma[j] + beta[j]
			}
		}
	}
}

// affine is gamma and beta, nil if Bare.
func (k LayerNorm) affine(in []program.Arg) (gamma, beta []float32) {
	if k.Bare {
		return nil, nil
	}
	return in[1].F32(), in[2].F32()
}

func (k LayerNorm) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	gamma, beta := k.affine(in)
	p.LayerNorm(out.F32(), in[0].F32(), op.Rows(out.Shape), op.Last(out.Shape), gamma, beta, k.Eps)
}

func (k LayerNorm) Float(i int) bool { return i > 0 }

func (k LayerNorm) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	s := out.Shape
	p := &layerNormParams{x: in[0].Ptr, out: out.Ptr, rows: int32(op.Rows(s)), channels: int32(op.Last(s)), eps: k.Eps}
	name := "layer_norm_bare"
	if !k.Bare {
		name, p.gamma, p.beta = "layer_norm", in[1].Ptr, in[2].Ptr
	}
	return []device.Kernel{op.Launch(name, out.DType, p, op.Ceil(int(p.rows), 8), 256, 0)}, nil
}

// moments returns the mean of n values and one over their standard deviation.
func moments(n int, eps float32, x func(int) float32) (mean, inv float64) {
	for i := range n {
		mean += float64(x(i))
	}
	mean /= float64(n)
	var v float64
	for i := range n {
		d := float64(x(i)) - mean
		v += d * d
	}
	return mean, 1 / math.Sqrt(v/float64(n)+float64(eps))
}
