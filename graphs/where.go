package graphs

import (
	"fmt"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Place is where the bytes of a weight are.
type Place struct {
	// Device is "" while a weight lies on the host alone, or nowhere yet; else the device to which a plan has copied it, for
	// the calls that run now. Its master stays on the host.
	Device string
	Loaded bool // there is a master: the weight was read from its source
	Offset int  // in the arena of the plan, on a device
	Bytes  int

	address device.Ptr
}

// Where is the place of a weight at this moment: between runs, between the passes of one, or in a hook. It is false for a
// node that is no weight of a runtime. It must not be called by an op.
func Where(n *G.Node) (Place, bool) {
	if n == nil {
		return Place{}, false
	}
	w, ok := n.Value().(*Weight)
	if !ok {
		return Place{}, false
	}
	p, _ := w.look()
	return p, true
}

// Weight is the value that the node of a weight has once its graph is compiled. It has no memory of its own: it is the
// weight wherever that lies, a master on the host or its place on a device, and what it says changes with it.
type Weight struct {
	rt     *Runtime
	name   string
	shape  tensor.Shape
	layout program.Layout
	bytes  int
}

var _ G.Value = (*Weight)(nil)

// letWeights gives the nodes of weights their values, but for those that have one.
func (vm *VM) letWeights() error {
	for i := range vm.prog.Values {
		v := &vm.prog.Values[i]
		if v.Kind != program.Weight || v.Node.Value() != nil {
			continue
		}
		w := &Weight{vm.rt, v.Name, v.Shape, v.Layout, vm.host.weights.WeightBytes(vm.prog, *v)}
		if err := G.UnsafeLet(v.Node, w); err != nil {
			return fmt.Errorf("weight %s: %w", v.Name, err)
		}
	}
	return nil
}

// look finds the weight's bytes: their place, and on the host they themselves.
func (w *Weight) look() (p Place, at []byte) {
	h := w.rt.host
	h.busy.Lock()
	defer h.busy.Unlock()
	p.Bytes = w.bytes
	if h.closed() {
		return p, nil
	}
	at = h.weights.Master(w.name, w.layout)
	p.Loaded = at != nil
	if s := w.rt.session; s != nil {
		if i, ok := s.index[stored{w.name, w.layout}]; ok {
			if offset, there := s.engine.Resident(i); there {
				p.Device, p.Offset, p.address = s.device.Name(), offset, s.engine.Address(offset)
				if local, ok := s.device.(*device.Host); ok {
					return p, local.Bytes(p.address, w.bytes)
				}
				return p, nil
			}
		}
	}
	return p, at
}

// Data is a []float32, where the host can read the weight as that: nil on a device with memory of its own, before it is
// loaded, and where it is laid out for its kernel.
func (w *Weight) Data() any {
	_, at := w.look()
	if w.layout != program.Plain || len(at) == 0 {
		return []float32(nil)
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(at))), len(at)/4)
}

// Uintptr is the address, of the host's memory or the device's; 0 where the weight is not loaded.
func (w *Weight) Uintptr() uintptr {
	p, at := w.look()
	if at == nil && p.Device != "" {
		return uintptr(p.address)
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(at)))
}

// MemSize is the bytes at that address.
func (w *Weight) MemSize() uintptr { return uintptr(w.bytes) }

// Shape is the weight's.
func (w *Weight) Shape() tensor.Shape { return w.shape }

// Size is the number of its elements.
func (w *Weight) Size() int { return w.shape.TotalSize() }

// Dtype is float32: what graphs know it as, however it is stored.
func (w *Weight) Dtype() tensor.Dtype { return tensor.Float32 }

// Format prints the name, the shape and the place.
func (w *Weight) Format(s fmt.State, _ rune) {
	p, _ := w.look()
	where := "its source"
	switch {
	case p.Device != "":
		where = fmt.Sprintf("%s at %d", p.Device, p.Offset)
	case p.Loaded:
		where = "the host"
	}
	fmt.Fprintf(s, "weight %s %v, %d bytes, on %s", w.name, w.shape, p.Bytes, where)
}
