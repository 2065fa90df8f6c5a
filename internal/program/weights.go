package program

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
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
	src  Source
	mem  *hostmem.Memory
	pool *cpu.Pool
	dev  device.Device // that copies from what is held; nil if none does

	mu    sync.Mutex
	held  map[weightKey]Arg
	bytes int
	slabs [][]byte      // what is held lies in these, in the order it was loaded
	room  []byte        // what is left of the last
	took  time.Duration // of every Load
}

type weightKey struct {
	name   string
	layout Layout
}

// NewWeights holds nothing yet. What it will hold is of mem, and locked for dev if that is not nil.
func NewWeights(src Source, pool *cpu.Pool, mem *hostmem.Memory, dev device.Device) *Weights {
	return &Weights{src: src, pool: pool, mem: mem, dev: dev, held: map[weightKey]Arg{}}
}

// Release frees everything that is held, but what the device does not let go of.
func (w *Weights) Release() (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.slabs {
		if w.dev != nil {
			if e := w.dev.Unlock(s); e != nil {
				err = errors.Join(err, e)
				w.mem.Abandon(s)
				continue
			}
		}
		w.mem.Free(s)
	}
	clear(w.held)
	w.slabs, w.room, w.bytes = nil, nil, 0
	return err
}

// reserve makes room for all that Load would add, in one piece: neighbours in execution order are neighbours in memory.
func (w *Weights) reserve(p *Program) error {
	n := 0
	for i := range p.Values {
		if v := &p.Values[i]; w.missing(v) {
			n += slot(w.WeightBytes(p, *v))
		}
	}
	if n <= len(w.room) {
		return nil
	}
	slab, err := w.mem.Alloc(max(n, smallestLocked))
	if err != nil {
		return err
	}
	if w.dev != nil {
		if err := w.dev.Lock(slab); err != nil {
			w.mem.Free(slab)
			return err
		}
	}
	w.slabs, w.room = append(w.slabs, slab), slab
	return nil
}

// slot is what a weight takes of a slab.
func slot(n int) int { return (n + hostmem.Align - 1) / hostmem.Align * hostmem.Align }

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
	begun := time.Now()
	defer func() { w.took += time.Since(begun) }()
	if err := w.reserve(p); err != nil {
		return err
	}
	var staging []byte
	defer func() { w.mem.Free(staging) }()
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
		var err error
		if staging == nil {
			if staging, err = w.mem.Alloc(w.largest(p)); err != nil {
				return err
			}
		}
		if err := w.src.ReadTensor(ctx, v.Name, staging[:raw]); err != nil {
			return err
		}
		n := w.WeightBytes(p, *v)
		a := Arg{Shape: v.Shape, Data: w.room[:n:n]}
		a.DType = p.Target.pack(w.pool, a.Data, staging[:raw], v.Layout, v.Shape, t)
		w.room = w.room[slot(n):]
		w.held[key] = a
		w.bytes += len(a.Data)
	}
	return nil
}

// Took is the time that Load has taken so far.
func (w *Weights) Took() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.took
}

// largest is the stored size of the largest weight that Load would read.
func (w *Weights) largest(p *Program) (n int) {
	for i := range p.Values {
		if v := &p.Values[i]; w.missing(v) {
			_, t, _ := w.src.Stored(v.Name)
			n = max(n, v.Shape.TotalSize()*t.Size())
		}
	}
	return n
}

// Missing is the number of bytes that Load would take, the memory it reads into included.
func (w *Weights) Missing(p *Program) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.largest(p)
	for i := range p.Values {
		if v := &p.Values[i]; w.missing(v) {
			n += w.WeightBytes(p, *v)
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
