package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// gated is act(gate) value (Shazeer 2020).
//
//	gate, value, result  [... C]
type gated struct {
	plain
	Act activation
}

func (k gated) String() string { return fmt.Sprintf("Gated{%v}", k.Act) }
func (k gated) Arity() int     { return 2 }
func (k gated) InPlace() []int { return []int{0, 1} }

func (k gated) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) == 0 {
		return nil, wrongShape(k, "gate", in[0], "[... C]")
	}
	if !same(in[0], in[1]) {
		return nil, wrongShape(k, "value", in[1], "%v, like gate", []int(in[0]))
	}
	return sameShape(in)
}

func (k gated) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	k.Act.Define(out, in[0].F32())
	for i, v := range in[1].F32() {
		out[i] *= v
	}
}

func (k gated) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Gated(out.F32(), in[0].F32(), in[1].F32(), cpu.Activation(k.Act))
}

func (k gated) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("gated", out, func(p *pointwiseParams) { p.a, p.b, p.act = in[0].Ptr, in[1].Ptr, int32(k.Act) })
}

// gatedHalves is gated of the halves of the last dimension: the second is the gate, or the first if gateFirst.
//
//	x       [... 2C]
//	result  [... C]
type gatedHalves struct {
	plain
	Act       activation
	GateFirst bool
}

func (k gatedHalves) String() string {
	return fmt.Sprintf("GatedHalves{%v gateFirst=%t}", k.Act, k.GateFirst)
}
func (k gatedHalves) Arity() int { return 1 }

func (k gatedHalves) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) == 0 || last(in[0])%2 != 0 {
		return nil, wrongShape(k, "x", in[0], "[... 2C]: two halves")
	}
	out := in[0].Clone()
	out[len(out)-1] /= 2
	return out, nil
}

func (k gatedHalves) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), last(shape)
	for r := range rows(shape) {
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

func (k gatedHalves) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.GatedHalves(out.F32(), in[0].F32(), rows(out.Shape), last(out.Shape), cpu.Activation(k.Act), k.GateFirst)
}

func (k gatedHalves) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return pointwise("gated", out, func(p *pointwiseParams) {
		p.a, p.b, p.act, p.vectors, p.bStride = in[0].Ptr, in[0].Ptr, int32(k.Act), 1, 2*p.channels
		if k.GateFirst {
			p.bAt = p.channels
		} else {
			p.cAt = p.channels
		}
	})
}

// SwiGLU is the first half of the last dimension times the SiLU of the second, as diffusers' SwiGLU has them.
//
//	x       [... 2C]
//	result  [... C]
func (f Flow) SwiGLU() Flow { return f.apply("swiglu", gatedHalves{Act: SiLU}) }

// SwiGLUGateFirst is the SiLU of the first half times the second, as FLUX.2 has them, and Llama's and Z-Image's w1 and
// w3 if they are one product. For two products there is Gated.
//
//	x       [... 2C]
//	result  [... C]
func (f Flow) SwiGLUGateFirst() Flow {
	return f.apply("swiglu", gatedHalves{Act: SiLU, GateFirst: true})
}

// Gated applies the function that Activation knows by that name, and multiplies by value. "silu" of w1 x with the value
// w3 x is the SwiGLU of Llama and Z-Image, "gelu_new" of wi_0 x with wi_1 x the gate of T5.
//
//	x, value, result  [... C]
func (f Flow) Gated(name string, value Flow) Flow {
	act, err := activationOf(name)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("%s: %w", f.s.Name(), err)
	}
	return f.join("gated", gated{Act: act}, value)
}
