package layers

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// rmsNorm divides each head of the last dimension by the root of the mean of its squares (Zhang and Sennrich 2019),
// then scales it if there is a weight. All heads have the same weight.
//
//	x, result  [... Heads*D]
//	weight     [D]           if weight
type rmsNorm struct {
	plain
	Heads  int
	Eps    float32
	Weight bool
}

func (k rmsNorm) String() string {
	return fmt.Sprintf("RMSNorm{heads=%d eps=%g weight=%t}", k.Heads, k.Eps, k.Weight)
}
func (k rmsNorm) Arity() int     { return 1 + b2i(k.Weight) }
func (k rmsNorm) InPlace() []int { return []int{0} }

func (k rmsNorm) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) == 0 || k.Heads < 1 || last(x)%k.Heads != 0 {
		return nil, wrongShape(k, "x", x, "[... C] with C a multiple of %d heads", k.Heads)
	}
	if d := last(x) / k.Heads; k.Weight && !same(in[1], tensor.Shape{d}) {
		return nil, wrongShape(k, "weight", in[1], "[%d]", d)
	}
	return sameShape(in)
}

func (k rmsNorm) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, d := in[0].F32(), last(shape)/k.Heads
	for at := 0; at < len(x); at += d {
		var squares float64
		for _, v := range x[at:][:d] {
			squares += float64(v) * float64(v)
		}
		inv := 1 / math.Sqrt(squares/float64(d)+float64(k.Eps))
		for i, v := range x[at:][:d] {
			out[at+i] = float32(float64(v) * inv)
			if k.Weight {
				out[at+i] *= in[1].F32()[i]
			}
		}
	}
}

func (k rmsNorm) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	var weight []float32
	if k.Weight {
		weight = in[1].F32()
	}
	p.RMSNorm(out.F32(), in[0].F32(), rows(out.Shape)*k.Heads, last(out.Shape)/k.Heads, weight, k.Eps)
}

func (k rmsNorm) Float(i int) bool { return i == 1 }

// rmsNormParams is RMSNormParams of norm.cu.
type rmsNormParams struct {
	x, gamma, out         device.Ptr
	rows, channels, lanes int32
	eps                   float32
}

func (k rmsNorm) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	d := last(out.Shape) / k.Heads
	p := &rmsNormParams{x: in[0].Ptr, out: out.Ptr, rows: int32(rows(out.Shape) * k.Heads), channels: int32(d),
		lanes: 1, eps: k.Eps}
	if k.Weight {
		p.gamma = in[1].Ptr
	}
	for packs := ceil(d*out.DType.Size(), 16); p.lanes < 32 && int(p.lanes) < packs; {
		p.lanes *= 2
	}
	grid := ceil(int(p.rows)*int(p.lanes), 256)
	return []device.Kernel{launch("rms_norm", out.DType, p, grid, 256, 0)}, nil
}

// RMSNorm divides each vector of the last dimension by the root of the mean of its squares, and scales it: weight
// name.weight [C].
//
//	x, result  [... C]
func (f Flow) RMSNorm(name string, eps float32) Flow { return f.RMSNormHeads(name, 1, eps) }

// RMSNormHeads is RMSNorm of each head by itself, as attention does to queries and keys: weight name.weight [D].
//
//	x, result  [... heads*D]
func (f Flow) RMSNormHeads(name string, heads int, eps float32) Flow {
	c := f.width()
	return f.Then(name, func(s Scope, x *G.Node) (*G.Node, error) {
		k := rmsNorm{Heads: heads, Eps: eps, Weight: true}
		if heads < 1 || c%heads != 0 {
			return nil, wrongShape(k, "x", x.Shape(), "[... C] with C a multiple of %d heads", heads)
		}
		return apply(s, k, x, s.Weight("weight", c/heads))
	})
}

// RMSNormNoWeight is RMSNorm without name.weight.
//
//	x, result  [... C]
func (f Flow) RMSNormNoWeight(name string, eps float32) Flow {
	return f.apply(name, rmsNorm{Heads: 1, Eps: eps})
}
