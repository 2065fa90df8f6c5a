package graphs

import (
	"fmt"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/device"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"errors"
	"strings"

	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/loader"
)

// WithWeights reads the leaves of graphs whose names a source has from it. Of several sources the first that has a name
// gives the weight. Sources must stay open as long as the runtime.
func WithWeights(s ...loader.Source) Option {
	return option(func(o *options) { o.sources = append(o.sources, s...) })
}

// WithModel is WithWeights of a model folder, of any class: names are a component's name, a dot and a checkpoint key
// ("unet.conv_in.weight"). Weights of a component that cannot be opened are an error where a leaf is named after them.
func WithModel(m *loader.Model) Option {
	return option(func(o *options) {
		o.sources = append(o.sources, m)
		o.models = append(o.models, m)
	})
}

// openModels refuses sources that are nil, and models with weights that are not right.
func (o *options) openModels() error {
	for _, s := range o.sources {
		if s == nil {
			return errors.New("a source of weights is nil")
		}
	}
	for _, m := range o.models {
		if m == nil {
			return errors.New("the model is nil")
		}
		if err := m.OpenWeights(); err != nil {
			return err
		}
	}
	return nil
}

// unread is the reason why a leaf is no weight although its name begins with a component's: the component's weights
// cannot be opened.
func (o *options) unread(p *program.Program) error {
	for _, v := range p.Values {
		name, _, _ := strings.Cut(v.Name, ".")
		for _, m := range o.models {
			c, err := m.Component(name)
			if v.Kind != program.Input || err != nil {
				continue
			}
			var e *loader.Error
			if _, err := c.Weights(); errors.As(err, &e) && e.Got != "no weights" {
				return err
			}
		}
	}
	return nil
}

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
	where := p.Device
	if where == "" {
		where = map[bool]string{true: "the host", false: "its source"}[p.Loaded]
	}
	fmt.Fprintf(s, "weight %s %v, %d bytes at %d of %s", w.name, w.shape, p.Bytes, p.Offset, where)
}
