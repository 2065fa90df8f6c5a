package program

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/internal/panics"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Arena is memory for activations that the runners of one pipeline share: it is as large as the largest of
// them needs, and what one leaves there the next overwrites.
type Arena struct {
	buf []byte
	mem *hostmem.Memory
}

// NewArena is empty. What it will hold is of mem.
func NewArena(mem *hostmem.Memory) *Arena { return &Arena{mem: mem} }

// Release frees its memory.
func (a *Arena) Release() {
	a.mem.Free(a.buf)
	a.buf = nil
}

// grow makes it n bytes large.
func (a *Arena) grow(n int) (err error) {
	a.Release() // the old one goes before the new one comes
	a.buf, err = a.mem.Alloc(n)
	return err
}

// Bytes is the size of the arena so far.
func (a *Arena) Bytes() int { return len(a.buf) }

// Runner executes a program on the host: activations in an arena, shared weights, nothing allocated between
// calls.
type Runner struct {
	prog    *Program
	pool    *cpu.Pool
	arena   *Arena
	bound   *byte // the arena's memory that args refer to
	args    []Arg // of every value, in its place
	scratch []Arg // the arguments of the current call

	device  *Device // of an offloaded program
	remote  *remote // if the device has kernels
	mem     *hostmem.Memory
	inputs  map[int][]byte // places of its inputs
	outputs []Arg          // copies of its outputs: their places are given away after the last call

	pass Pass // that runs, or ran last
}

// Pass is one run of a program among those of an image.
type Pass struct {
	// Again says that it is not the first: what Program.Once names is in its place on the device.
	Again bool
	// Carry says that what Program.Carry names is in its place, from the pass before, and Keep that it may stay there, and
	// its Output is not asked for. Both are for devices with kernels; elsewhere values come and go with each pass.
	Carry, Keep bool
	// Watch, if set, is told of the calls.
	Watch Watcher
}

// NewRunner grows the arena to what a program needs and loads its weights. The context stops the loading.
func NewRunner(ctx context.Context, p *Program, pool *cpu.Pool, w *Weights, arena *Arena) (*Runner, error) {
	r := &Runner{prog: p, pool: pool, args: make([]Arg, len(p.Values)), arena: arena}
	if arena.Bytes() < p.Arena {
		if err := arena.grow(p.Arena); err != nil {
			return nil, err
		}
	}
	if err := w.Load(ctx, p); err != nil {
		return nil, err
	}
	for i, v := range p.Values {
		switch v.Kind {
		case Weight:
			r.args[i] = w.get(v)
		case Constant:
			var err error
			if r.args[i], err = argOf(v.Node.Op().(constantOp).Value(), v.Layout); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// place points the activations into the arena, which may have grown since the last run.
func (r *Runner) place() {
	if r.remote != nil || r.prog.Arena == 0 || r.bound == &r.arena.buf[0] {
		return
	}
	for i, v := range r.prog.Values {
		if v.Kind == Activation {
			r.args[i] = Arg{v.Shape, v.DType, r.arena.buf[v.Offset : v.Offset+v.Bytes : v.Offset+v.Bytes]}
		}
	}
	r.bound = &r.arena.buf[0]
}

// Offloaded reports whether the program's values lie on a device.
func (r *Runner) Offloaded() bool { return r.device != nil }

// Output is the i-th output of the last run. Its bytes are the arena's: the next run overwrites them. It has none if it was
// kept on the device.
func (r *Runner) Output(i int) Arg {
	if r.remote != nil && r.kept(r.prog.Outputs[i]) {
		return Arg{Shape: r.outputs[i].Shape, DType: r.outputs[i].DType}
	}
	if r.device != nil {
		return r.outputs[i]
	}
	return r.args[r.prog.Outputs[i]]
}

// Run binds the inputs' values and executes every call, looking at the context before each.
func (r *Runner) Run(ctx context.Context, pass Pass) (err error) {
	r.pass = pass
	r.place()
	if r.remote != nil {
		if err := r.remote.settle(); err != nil {
			return err
		}
		// Nothing may be under way when the buffers it uses are given to others.
		defer func() {
			if e := r.remote.settle(); e != nil && err == nil {
				err = e
			}
		}()
	}
	if err := r.bind(); err != nil {
		return err
	}
	for i := 0; i < len(r.prog.Calls); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.step(i, r.prog.Calls[i])
		if err != nil {
			return err
		}
		i += n
	}
	if r.remote == nil {
		return nil
	}
	if err := r.remote.sync(); err != nil {
		return err
	}
	for k, o := range r.prog.Outputs {
		if r.fetched(o) {
			r.remote.output(o, r.outputs[k].Data)
		}
	}
	return nil
}

// kept reports whether an output stays on a device with kernels: it is shared, or carried to the next pass.
func (r *Runner) kept(value int) bool {
	return r.prog.Values[value].Shared || r.pass.Keep && slices.ContainsFunc(r.prog.Carried, func(c carried) bool { return c.out == value })
}

// fetched reports whether an output is copied from a device with kernels. What no call computed is on the host as it is.
func (r *Runner) fetched(value int) bool {
	return r.prog.Values[value].Kind == Activation && !r.kept(value)
}

// inPlace reports whether an input or constant has its value on the device.
func (r *Runner) inPlace(i int, v *Value) bool {
	if v.Shared || r.pass.Again && (v.Once || v.Kind == Constant) {
		return true
	}
	return r.remote != nil && r.pass.Carry && slices.ContainsFunc(r.prog.Carried, func(c carried) bool { return c.in == i })
}

// bind puts the values of inputs, and on a device with kernels those of constants, in their places.
func (r *Runner) bind() error {
	if r.remote != nil {
		r.remote.filled = r.remote.filled[:0]
	}
	for i, v := range r.prog.Values {
		var val G.Value
		switch {
		case r.device != nil && r.inPlace(i, &v):
			continue
		case v.Kind == Constant && r.remote != nil && v.copied():
			val = v.Node.Op().(constantOp).Value()
		case v.Kind != Input || v.Last < 0 && v.Layout != Plain:
			continue
		default:
			val = v.Node.Value()
		}
		if val == nil {
			if v.Last < 0 {
				continue
			}
			return fmt.Errorf("input %q has no value: bind one with gorgonia.Let", v.Name)
		}
		layout := v.Layout
		if r.remote != nil {
			layout = Plain
		}
		a, err := argOf(val, layout)
		if err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
		if err := v.check(a); err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
		if r.device != nil {
			for k, o := range r.prog.Outputs {
				if o == i {
					copy(r.outputs[k].Data, a.Data)
				}
			}
		}
		if r.remote != nil {
			if v.copied() {
				r.remote.bind(i, a)
			}
			continue
		}
		if place, ok := r.inputs[i]; ok {
			a.Data = place[:copy(place, a.Data)]
		}
		r.args[i] = a
	}
	if r.remote != nil {
		return r.remote.copyIn()
	}
	return nil
}

// step runs one call, or issues it, and on a device those that follow it without a wait or a copy between them. It returns
// how many they were.
func (r *Runner) step(i int, call Call) (n int, err error) {
	if r.device != nil {
		if err := r.device.Before(i, call); err != nil {
			return 0, err
		}
		if n := r.together(i); n > 1 {
			return n, r.stretch(i, n)
		}
	}
	return 1, r.one(i, call)
}

// together is how many calls from i on may be issued as one.
func (r *Runner) together(i int) int {
	if r.remote == nil {
		return 1
	}
	n := r.remote.together(i, r.device.Idle(mostTogether))
	if r.pass.Watch == nil {
		return n
	}
	for k := range n {
		if r.pass.Watch.Looks(i + k) {
			return max(1, k)
		}
	}
	return n
}

// stretch issues n calls from i on.
func (r *Runner) stretch(i, n int) error {
	if err := r.watched(i, n, Watcher.Before); err != nil {
		return err
	}
	if err := r.remote.stretch(i, n); err != nil {
		return fmt.Errorf("%s: %w", r.prog.Calls[i].Layer, err)
	}
	if err := r.watched(i, n, Watcher.After); err != nil {
		return err
	}
	if i+n == len(r.prog.Calls) {
		if err := r.collect(); err != nil {
			return err
		}
	}
	r.device.Passed(n)
	return nil
}

// watched tells the watcher of n calls from i on.
func (r *Runner) watched(i, n int, tell func(Watcher, int) error) error {
	if r.pass.Watch == nil {
		return nil
	}
	for k := range n {
		if err := tell(r.pass.Watch, i+k); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) one(i int, call Call) error {
	if err := r.watched(i, 1, Watcher.Before); err != nil {
		return err
	}
	looks, done := r.pass.Watch != nil && r.pass.Watch.Looks(i), false
	var err error
	if looks {
		if done, err = r.pass.Watch.Instead(i); err != nil {
			return err
		}
	}
	if !done {
		if r.remote != nil {
			err = r.remote.call(i)
		} else {
			err = r.call(call)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", call.Layer, err)
		}
	}
	if looks {
		if err := r.pass.Watch.See(i); err != nil {
			return err
		}
	}
	if err := r.watched(i, 1, Watcher.After); err != nil {
		return err
	}
	if r.device == nil {
		return nil
	}
	if i == len(r.prog.Calls)-1 {
		if err := r.collect(); err != nil {
			return err
		}
	}
	return r.device.After(i, call)
}

// collect saves the outputs before their places are given away.
func (r *Runner) collect() error {
	if r.remote != nil {
		return r.remote.outputs(r.fetched)
	}
	for k, o := range r.prog.Outputs {
		if r.prog.Values[o].Kind == Activation {
			copy(r.outputs[k].Data, r.args[o].Data)
		}
	}
	return nil
}

func (r *Runner) call(c Call) (err error) {
	defer panics.Recovered(&err)
	out := r.args[c.Out]
	r.scratch = r.scratch[:0]
	for _, in := range c.In {
		r.scratch = append(r.scratch, r.args[in])
	}
	if op, ok := c.Host(); ok {
		op.Host(r.pool, out, r.scratch)
		return nil
	}
	vals := make([]G.Value, len(r.scratch))
	for i, a := range r.scratch {
		vals[i] = ValueOf(a)
	}
	res, err := c.Op.Do(vals...)
	if err != nil {
		return err
	}
	a, err := argOf(res, Plain)
	if err != nil {
		return err
	}
	if len(a.Data) != len(out.Data) || a.DType != out.DType {
		return errors.New("the op's result is not of the size its graph node says")
	}
	copy(out.Data, a.Data)
	return nil
}

// ValueOf wraps an argument as a Gorgonia value over the same memory.
func ValueOf(a Arg) G.Value {
	switch {
	case a.DType == dtype.I32 && len(a.Shape) == 0:
		return G.NewI32(a.I32()[0])
	case a.DType == dtype.I32:
		return tensor.New(tensor.WithShape(a.Shape...), tensor.WithBacking(a.I32()))
	case len(a.Shape) == 0:
		return G.NewF32(a.F32()[0])
	}
	return tensor.New(tensor.WithShape(a.Shape...), tensor.WithBacking(a.F32()))
}

// argOf views a Gorgonia value as an argument, packing it if the layout says so.
func argOf(v G.Value, l Layout) (Arg, error) {
	if t, ok := v.(*tensor.Dense); ok && t.RequiresIterator() {
		v = t.Materialize().(*tensor.Dense)
	}
	a := Arg{Shape: v.Shape()}
	switch t, dense := v.(*tensor.Dense); {
	case dense && t.Dtype() == tensor.Float32 && !t.IsScalar(): // its Data would allocate
		a.DType, a.Data = dtype.F32, Bytes(t.Float32s())
	case dense && t.Dtype() == tensor.Int32 && !t.IsScalar():
		a.DType, a.Data = dtype.I32, Bytes(t.Int32s())
	default:
		switch data := v.Data().(type) {
		case []float32:
			a.DType, a.Data = dtype.F32, Bytes(data)
		case []int32:
			a.DType, a.Data = dtype.I32, Bytes(data)
		case float32:
			a.DType, a.Data = dtype.F32, Bytes([]float32{data})
		case int32:
			a.DType, a.Data = dtype.I32, Bytes([]int32{data})
		default:
			return Arg{}, fmt.Errorf("values of type %T are not run here; use float32 or int32", data)
		}
	}
	if l == LinearPanels || l == ConvPanels {
		dst := alignedBytes(Packed(l, a.Shape, dtype.F32))
		Pack(dst, a.Data, l, a.Shape, dtype.F32)
		a.Data = dst
	}
	return a, nil
}

// alignedBytes allocates n zero bytes that start on a cache line.
func alignedBytes(n int) []byte {
	b := make([]byte, n+Align)
	off := int(-uintptr(unsafe.Pointer(&b[0])) & (Align - 1))
	return b[off : off+n : off+n]
}
