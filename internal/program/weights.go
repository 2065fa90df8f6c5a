package program

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/euryale-ml/euryale/internal/dtype"
	"gorgonia.org/tensor"
)

// Source gives the stored bytes of weights by node name.
type Source interface {
	// Stored returns the shape and dtype of a weight.
	Stored(name string) (shape []int, t dtype.Type, ok bool)
	// ReadTensor fills dst with its bytes, unless the context ends first.
	ReadTensor(ctx context.Context, name string, dst []byte) error
}

// Weights holds weights packed for their kernels, each once however many programs read it. They are never
// written after loading.
type Weights struct {
	src   Source
	mu    sync.Mutex
	held  map[weightKey]Arg
	bytes int
}

type weightKey struct {
	name   string
	layout Layout
}

// NewWeights holds nothing yet.
func NewWeights(src Source) *Weights {
	return &Weights{src: src, held: map[weightKey]Arg{}}
}

// Has reports whether a node name is a weight's.
func (w *Weights) Has(name string) bool {
	_, _, ok := w.src.Stored(name)
	return ok
}

// Bytes is what the weights held take.
func (w *Weights) Bytes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// Load reads what p needs and is not held yet. The context stops it between tensors.
func (w *Weights) Load(ctx context.Context, p *Program) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.bytes
	var staging []byte
	defer func() {
		if staging = nil; w.bytes-before > 64<<20 {
			// What loading leaves behind would otherwise stay until the heap has doubled, which with a large model is
			// never.
			debug.FreeOSMemory()
		}
	}()
	largest := 0
	for i := range p.Values {
		if v := &p.Values[i]; w.missing(v) {
			_, t, _ := w.src.Stored(v.Name)
			largest = max(largest, v.Shape.TotalSize()*t.Size())
		}
	}
	for i := range p.Values {
		v := &p.Values[i]
		if !w.missing(v) {
			continue
		}
		key := weightKey{v.Name, v.Layout}
		if err := ctx.Err(); err != nil {
			return err
		}
		shape, t, _ := w.src.Stored(v.Name)
		if !v.Shape.Eq(tensor.Shape(shape)) || !t.Float() {
			return fmt.Errorf("weight %s is %v %v, the graph wants %v", v.Name, t, shape, v.Shape)
		}
		raw := v.Shape.TotalSize() * t.Size()
		if staging == nil {
			staging = make([]byte, largest)
		}
		if err := w.src.ReadTensor(ctx, v.Name, staging[:raw]); err != nil {
			return err
		}
		a := Arg{Shape: v.Shape, Data: alignedBytes(Packed(v.Layout, v.Shape, t))}
		a.DType = Pack(a.Data, staging[:raw], v.Layout, v.Shape, t)
		w.held[key] = a
		w.bytes += len(a.Data)
	}
	return nil
}

// Missing is the number of bytes that Load would add.
func (w *Weights) Missing(p *Program) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for i := range p.Values {
		if v := &p.Values[i]; w.missing(v) {
			n += w.WeightBytes(*v)
		}
	}
	return n
}

// missing reports whether v is a weight that is read and not held.
func (w *Weights) missing(v *Value) bool {
	if v.Kind != Weight || v.Last < 0 {
		return false
	}
	_, ok := w.held[weightKey{v.Name, v.Layout}]
	return !ok
}

func (w *Weights) get(v Value) Arg {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held[weightKey{v.Name, v.Layout}]
}
