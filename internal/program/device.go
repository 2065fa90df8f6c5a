package program

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
)

// Device is where the values of an offloaded program lie, and who is told of its calls.
type Device struct {
	Memory []byte                                  // DeviceBytes of activations and inputs
	Weight func(name string, layout Layout) []byte // the weight's place; its bytes are there when Before returns
	Before func(i int, call Call) error
	After  func(i int, call Call)
}

// DeviceBytes is the memory of a program's inputs and, above them, activations.
func (p *Program) DeviceBytes() int { return p.inputArea() + p.Arena }

// DeviceTops is, per call, the end of the memory in use during the call.
func (p *Program) DeviceTops() []int {
	tops := make([]int, len(p.Calls))
	inputs := p.inputArea()
	for i := range tops {
		tops[i] = inputs
	}
	for _, v := range p.Values {
		if v.Kind == Activation && v.First >= 0 {
			for c := v.First; c <= min(max(v.First, v.Last), len(tops)-1); c++ {
				tops[c] = max(tops[c], inputs+v.Offset+v.Bytes)
			}
		}
	}
	return tops
}

func (p *Program) inputArea() (n int) {
	for _, v := range p.Values {
		if v.Kind == Input {
			n += align(v.inputBytes())
		}
	}
	return n
}

func (v *Value) inputBytes() int { return max(v.Bytes, Packed(v.Layout, v.Shape, v.DType)) }

// WeightBytes is the size of a weight as the device holds it.
func (w *Weights) WeightBytes(v Value) int {
	_, t, _ := w.src.Stored(v.Name)
	return Packed(v.Layout, v.Shape, t)
}

// Master is the host's copy of a weight that is loaded. It must not be written.
func (w *Weights) Master(name string, l Layout) []byte {
	return w.get(Value{Name: name, Layout: l}).Data
}

// NewDeviceRunner executes a program whose weights, loaded before, are elsewhere.
func NewDeviceRunner(p *Program, pool *cpu.Pool, w *Weights, d Device) (*Runner, error) {
	if len(d.Memory) < p.DeviceBytes() {
		return nil, fmt.Errorf("%d bytes of device memory for a program that takes %d", len(d.Memory), p.DeviceBytes())
	}
	inputs := p.inputArea()
	r := &Runner{prog: p, pool: pool, args: make([]Arg, len(p.Values)), arena: &Arena{buf: d.Memory[inputs : inputs+p.Arena]}, device: &d, inputs: map[int][]byte{}}
	at := 0
	for i, v := range p.Values {
		switch v.Kind {
		case Weight:
			if v.Last < 0 {
				continue
			}
			r.args[i] = w.get(v)
			r.args[i].Data = d.Weight(v.Name, v.Layout)
		case Constant:
			var err error
			if r.args[i], err = argOf(v.Node.Op().(constantOp).Value(), v.Layout); err != nil {
				return nil, err
			}
		case Input:
			n := v.inputBytes()
			r.inputs[i] = d.Memory[at : at+n : at+n]
			at += align(n)
		}
	}
	for _, o := range p.Outputs {
		data, err := w.mem.Alloc(p.Values[o].Bytes)
		if err != nil {
			r.Release(w)
			return nil, err
		}
		r.outputs = append(r.outputs, Arg{p.Values[o].Shape, p.Values[o].DType, data})
	}
	return r, nil
}

// Release frees what a device runner has beside the device: its outputs.
func (r *Runner) Release(w *Weights) {
	for _, o := range r.outputs {
		w.mem.Free(o.Data)
	}
	r.outputs = nil
}
