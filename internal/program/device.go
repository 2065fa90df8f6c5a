package program

import (
	"errors"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
)

// Device is where the values of an offloaded program lie, and who is told of its calls.
type Device struct {
	Dev    device.Device
	Memory device.Ptr                                  // DeviceBytes of inputs and activations
	Weight func(name string, layout Layout) device.Ptr // the weight's place; its bytes are there for calls after Before
	Before func(i int, call Call) error
	After  func(i int, call Call) error
	// Idle is how many calls, at most as many as are asked about, from the one that Before was called for need neither of
	// them but that one: those may be issued together, and Passed says that they were.
	Idle   func(most int) int
	Passed func(n int)
}

// DeviceBytes is the memory of what a program shares and, above that, of its inputs and activations.
func (p *Program) DeviceBytes() int { return p.inputArea() + p.Arena }

// DeviceTops is, per call, the end of the memory in use during the call.
func (p *Program) DeviceTops() []int {
	tops := make([]int, len(p.Calls))
	inputs := p.inputArea()
	for i := range tops {
		tops[i] = inputs
	}
	for _, v := range p.Values {
		if v.Kind == Activation && !v.Shared && v.First >= 0 {
			for c := v.First; c <= min(max(v.First, v.Last), len(tops)-1); c++ {
				tops[c] = max(tops[c], inputs+v.Offset+v.Bytes)
			}
		}
	}
	return tops
}

// inputArea is the end of what is shared and of the inputs.
func (p *Program) inputArea() int {
	n := p.Shared
	for _, v := range p.Values {
		if v.copied() && (v.Kind == Input && !v.Shared || v.Kind == Constant && p.Target.Kernels.Any()) {
			n += align(p.inputBytes(&v))
		}
	}
	return n
}

// copied reports whether an input or constant is copied to the device: not if no call reads it as it is laid out here.
func (v *Value) copied() bool { return v.Last >= 0 }

// inputBytes is what an input takes: its kernel on the host may want it packed.
func (p *Program) inputBytes(v *Value) int {
	if p.Target.Kernels.Any() {
		return v.Bytes
	}
	return max(v.Bytes, Packed(v.Layout, v.Shape, v.DType))
}

// WeightBytes is the size of a weight of p as the device holds it.
func (w *Weights) WeightBytes(p *Program, v Value) int {
	_, t, _ := w.src.Stored(v.Name)
	return Packed(v.Layout, v.Shape, p.Target.held(v.Layout, t))
}

// Master is the host's copy of a weight that is loaded. It must not be written.
func (w *Weights) Master(name string, l Layout) []byte {
	return w.get(Value{Name: name, Layout: l}).Data
}

// NewDeviceRunner executes a program whose weights, loaded before, are elsewhere.
func NewDeviceRunner(p *Program, pool *cpu.Pool, w *Weights, d Device) (r *Runner, err error) {
	r = &Runner{prog: p, pool: pool, args: make([]Arg, len(p.Values)), device: &d, mem: w.mem}
	defer func() {
		if err != nil {
			if e := r.Release(); e != nil {
				err = errors.Join(err, e)
			}
		}
	}()
	if h, ok := d.Dev.(*device.Host); ok {
		err = r.bindHost(h, w)
	} else {
		r.remote, err = newRemote(p, pool, w, d)
	}
	if err != nil {
		return r, err
	}
	for _, o := range p.Outputs {
		v := &p.Values[o]
		a := Arg{Shape: v.Shape, DType: onHost(v.DType)}
		if !v.Shared {
			if a.Data, err = w.mem.Alloc(v.Shape.TotalSize() * a.DType.Size()); err != nil {
				return r, err
			}
		}
		if v.Kind == Weight {
			copy(a.Data, w.get(*v).Data)
		}
		r.outputs = append(r.outputs, a)
	}
	return r, nil
}

// bindHost views every value in the host device's memory.
func (r *Runner) bindHost(h *device.Host, w *Weights) (err error) {
	p := r.prog
	memory, inputs, at := h.Bytes(r.device.Memory, p.DeviceBytes()), p.inputArea(), 0
	r.arena, r.inputs = &Arena{buf: memory[inputs:]}, map[int][]byte{}
	for i, v := range p.Values {
		switch v.Kind {
		case Weight:
			if v.Last < 0 {
				continue
			}
			r.args[i] = w.get(v)
			r.args[i].Data = h.Bytes(r.device.Weight(v.Name, v.Layout), len(r.args[i].Data))
		case Constant:
			if r.args[i], err = argOf(v.Node.Op().(constantOp).Value(), v.Layout); err != nil {
				return err
			}
		case Input:
			if !v.copied() {
				continue
			}
			n := p.inputBytes(&v)
			r.inputs[i] = memory[at : at+n : at+n]
			at += align(n)
		}
	}
	return nil
}

// Release frees what a device runner has beside its place on the device.
func (r *Runner) Release() (err error) {
	if r.remote != nil {
		err = r.remote.close()
	}
	for _, o := range r.outputs {
		r.mem.Free(o.Data)
	}
	r.outputs = nil
	return err
}
