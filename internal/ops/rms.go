package ops

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// RMSNorm divides each head of the last dimension by the root of the mean of its squares (Zhang and Sennrich 2019),
// then scales it if there is a weight. All heads have the same weight.
//
//	x, result  [... Heads*D]
//	weight     [D]           if Weight
type RMSNorm struct {
	op.Plain
	Heads  int
	Eps    float32
	Weight bool
}

func (k RMSNorm) String() string {
	return fmt.Sprintf("RMSNorm{heads=%d eps=%g weight=%t}", k.Heads, k.Eps, k.Weight)
}
func (k RMSNorm) Arity() int     { return 1 + op.Count(k.Weight) }
func (k RMSNorm) InPlace() []int { return []int{0} }

func (k RMSNorm) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) == 0 || k.Heads < 1 || op.Last(x)%k.Heads != 0 {
		return nil, op.WrongShape(k, "x", x, "[... C] with C a multiple of %d heads", k.Heads)
	}
	if d := op.Last(x) / k.Heads; k.Weight && !op.Same(in[1], tensor.Shape{d}) {
		return nil, op.WrongShape(k, "weight", in[1], "[%d]", d)
	}
	return op.SameShape(in)
}

func (k RMSNorm) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, d := in[0].F32(), op.Last(shape)/k.Heads
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

func (k RMSNorm) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	var weight []float32
	if k.Weight {
		weight = in[1].F32()
	}
	p.RMSNorm(out.F32(), in[0].F32(), op.Rows(out.Shape)*k.Heads, op.Last(out.Shape)/k.Heads, weight, k.Eps)
}

func (k RMSNorm) Float(i int) bool { return i == 1 }

// rmsNormParams is RMSNormParams of norm.cu.
type rmsNormParams struct {
	x, gamma, out         device.Ptr
	rows, channels, lanes int32
	eps                   float32
}

func (k RMSNorm) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	d := op.Last(out.Shape) / k.Heads
	p := &rmsNormParams{x: in[0].Ptr, out: out.Ptr, rows: int32(op.Rows(out.Shape) * k.Heads), channels: int32(d),
		lanes: 1, eps: k.Eps}
	if k.Weight {
		p.gamma = in[1].Ptr
	}
	for packs := op.Ceil(d*out.DType.Size(), 16); p.lanes < 32 && int(p.lanes) < packs; {
		p.lanes *= 2
	}
	grid := op.Ceil(int(p.rows)*int(p.lanes), 256)
	return []device.Kernel{op.Launch("rms_norm", out.DType, p, grid, 256, 0)}, nil
}
