package elem

import (
	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Concat joins two tensors along the last dimension.
//
//	a      [... Ca]
//	b      [... Cb]
//	result [... Ca+Cb]
type Concat struct{ op.Plain }

func (k Concat) String() string { return "Concat{}" }
func (k Concat) Arity() int     { return 2 }

func (k Concat) Infer(in []tensor.Shape) (tensor.Shape, error) {
	a, b := in[0], in[1]
	if len(a) != len(b) || !a[:len(a)-1].Eq(b[:len(b)-1]) {
		return nil, op.BadShapes(k, in)
	}
	out := a.Clone()
	out[len(out)-1] += op.Last(b)
	return out, nil
}

func (k Concat) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	ca, cb := op.Last(in[0].Shape), op.Last(in[1].Shape)
	for r := range op.Rows(shape) {
		row := out[r*(ca+cb):]
		copy(row[:ca], in[0].F32()[r*ca:])
		copy(row[ca:ca+cb], in[1].F32()[r*cb:])
	}
}

func (k Concat) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Concat(out.F32(), in[0].F32(), in[1].F32(), op.Rows(out.Shape), op.Last(in[0].Shape), op.Last(in[1].Shape))
}

func (k Concat) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return op.Elementwise("concat", out, in, func(p *op.ElementwiseParams) { p.Other = int32(op.Last(in[0].Shape)) })
}
