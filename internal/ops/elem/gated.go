package elem

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Gated is Act(gate) value (Shazeer 2020).
//
//	gate, value, result  [... C]
type Gated struct {
	op.Plain
	Act op.Activation
}

func (k Gated) String() string { return fmt.Sprintf("Gated{%v}", k.Act) }
func (k Gated) Arity() int     { return 2 }
func (k Gated) InPlace() []int { return []int{0, 1} }

func (k Gated) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) == 0 {
		return nil, op.WrongShape(k, "gate", in[0], "[... C]")
	}
	if !op.Same(in[0], in[1]) {
		return nil, op.WrongShape(k, "value", in[1], "%v, like gate", []int(in[0]))
	}
	return op.SameShape(in)
}

func (k Gated) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	k.Act.Define(out, in[0].F32())
	for i, v := range in[1].F32() {
		out[i] *= v
	}
}

func (k Gated) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Gated(out.F32(), in[0].F32(), in[1].F32(), cpu.Activation(k.Act))
}

func (k Gated) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("gated", out, func(p *pointwiseParams) { p.a, p.b, p.act = in[0].Ptr, in[1].Ptr, int32(k.Act) })
}

// GatedHalves is Gated of the halves of the last dimension: the second is the gate, or the first if GateFirst.
//
//	x       [... 2C]
//	result  [... C]
type GatedHalves struct {
	op.Plain
	Act       op.Activation
	GateFirst bool
}

func (k GatedHalves) String() string {
	return fmt.Sprintf("GatedHalves{%v gateFirst=%t}", k.Act, k.GateFirst)
}
func (k GatedHalves) Arity() int { return 1 }

func (k GatedHalves) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) == 0 || op.Last(in[0])%2 != 0 {
		return nil, op.WrongShape(k, "x", in[0], "[... 2C]: two halves")
	}
	out := in[0].Clone()
	out[len(out)-1] /= 2
	return out, nil
}

func (k GatedHalves) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), op.Last(shape)
	for r := range op.Rows(shape) {
		value, gate := x[2*r*c:][:c], x[(2*r+1)*c:][:c]
		if k.GateFirst {
			value, gate = gate, value
		}
		row := out[r*c:][:c]
		k.Act.Define(row, gate)
		for i, v := range value {
			row[i] *= v
		}
	}
}

func (k GatedHalves) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.GatedHalves(out.F32(), in[0].F32(), op.Rows(out.Shape), op.Last(out.Shape), cpu.Activation(k.Act), k.GateFirst)
}

func (k GatedHalves) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("gated", out, func(p *pointwiseParams) {
		p.a, p.b, p.act, p.vectors, p.bStride = in[0].Ptr, in[0].Ptr, int32(k.Act), 1, 2*p.channels
		if k.GateFirst {
			p.bAt = p.channels
		} else {
			p.cAt = p.channels
		}
	})
}
