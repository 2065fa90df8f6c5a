package program

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/internal/panics"
	G "gorgonia.org/gorgonia"
)

// remote is what a Runner has for a program that runs on a device with kernels. Work is issued to the compute stream and
// runs behind the caller until the outputs are fetched, at the end of a run.
type remote struct {
	dev     device.Device
	pool    *cpu.Pool
	mem     *hostmem.Memory
	prog    *Program
	args    []device.Arg
	kernels [][]device.Kernel // per call; nil where the op's definition runs on the host

	staging []byte // locked: inputs, constants and outputs on their way, each at its place
	at      map[int]int
	filled  []span // of staging, to be copied to the device's memory, where inputs lie as they do here
	memory  device.Ptr
	whole   []byte // locked: one value on its way, for what only the host can do
	done    device.Event
	loose   bool // something was issued that nobody has waited for

	graphs map[span]device.Graph // of calls; nil for calls issued once so far
}

// span is from one place to another.
type span struct{ from, to int }

// newRemote binds every value to its place and makes the launches of every call.
func newRemote(p *Program, pool *cpu.Pool, w *Weights, d Device) (r *remote, err error) {
	r = &remote{dev: d.Dev, pool: pool, mem: w.mem, prog: p, args: make([]device.Arg, len(p.Values)), at: map[int]int{}}
	defer func() {
		if err != nil {
			if e := r.close(); e != nil {
				err = errors.Join(err, e)
			}
		}
	}()
	inputs, staged := device.Ptr(p.inputArea()), 0
	r.memory, r.graphs = d.Memory+device.Ptr(p.Shared), map[span]device.Graph{}
	for i, v := range p.Values {
		a := device.Arg{Shape: v.Shape, DType: v.DType}
		switch v.Kind {
		case Activation:
			a.Ptr = d.Memory + inputs + device.Ptr(v.Offset)
		case Input, Constant:
			if v.Shared || !v.copied() {
				break
			}
			a.Ptr = r.memory + device.Ptr(staged)
			r.at[i], staged = staged, staged+align(v.Bytes)
		case Weight:
			if v.Last < 0 {
				continue
			}
			a.Ptr, a.DType = d.Weight(v.Name, v.Layout), w.get(v).DType
		}
		if v.Shared {
			a.Ptr = d.Memory + device.Ptr(v.Offset)
		}
		r.args[i] = a
	}
	for _, c := range p.Carried {
		r.args[c.out].Ptr = r.args[c.in].Ptr
	}
	for _, o := range p.Outputs {
		if v := &p.Values[o]; v.Kind == Activation && !v.Shared {
			r.at[o], staged = staged, staged+align(p.Values[o].Bytes)
		}
	}
	if r.staging, err = r.lock(staged); err != nil {
		return r, err
	}
	if r.done, err = r.dev.NewEvent(); err != nil {
		return r, err
	}
	return r, r.prepare()
}

// prepare makes the launches. That a kernel is missing is found here, before anything runs.
func (r *remote) prepare() (err error) {
	r.kernels = make([][]device.Kernel, len(r.prog.Calls))
	warned := map[string]bool{}
	for i, c := range r.prog.Calls {
		op, ok := c.Host()
		if !ok {
			if name := fmt.Sprint(c.Op); !warned[name] {
				warned[name] = true
				slog.Warn("an operation has no kernel and runs on the host", "op", name, "layer", c.Layer)
			}
			if err := r.stage(); err != nil {
				return err
			}
			continue
		}
		in := make([]device.Arg, len(c.In))
		for k, v := range c.In {
			in[k] = r.args[v]
		}
		var scratch device.Ptr
		if c.Scratch >= 0 {
			scratch = r.args[c.Scratch].Ptr
		}
		have := r.prog.Target.Kernels
		if r.kernels[i], err = op.Device(have, r.args[c.Out], in, scratch); err != nil {
			return fmt.Errorf("%s: %w", c.Layer, err)
		}
		for _, k := range r.kernels[i] {
			if !have.Names[k.Name] {
				return fmt.Errorf("%s: %s has no kernel %s", c.Layer, r.dev.Name(), k.Name)
			}
			if have.Load != nil {
				if err := have.Load(k.Name); err != nil {
					return fmt.Errorf("%s: %w", c.Layer, err)
				}
			}
		}
	}
	return nil
}

// largest is the bytes of the largest value.
func (r *remote) largest() (n int) {
	for _, v := range r.prog.Values {
		n = max(n, 4*v.Shape.TotalSize())
	}
	return n
}

// smallestLocked keeps locked buffers out of the Go heap, where hostmem puts small ones.
const smallestLocked = 1 << 16

// lock returns host memory that copies may use.
func (r *remote) lock(n int) ([]byte, error) {
	b, err := r.mem.Alloc(max(n, smallestLocked))
	if err != nil {
		return nil, err
	}
	if err := r.dev.Lock(b); err != nil {
		r.mem.Free(b)
		return nil, err
	}
	return b, nil
}

// close gives back what the runner has, but what the device does not let go of.
func (r *remote) close() (err error) {
	for _, b := range [][]byte{r.staging, r.whole} {
		if b == nil {
			continue
		}
		if e := r.dev.Unlock(b); e != nil {
			err = errors.Join(err, e)
			r.mem.Abandon(b)
			continue
		}
		r.mem.Free(b)
	}
	r.staging, r.whole = nil, nil
	for _, g := range r.graphs {
		if g != nil {
			err = errors.Join(err, r.dev.FreeGraph(g))
		}
	}
	r.graphs = nil
	if r.done != nil {
		err = errors.Join(err, r.dev.FreeEvent(r.done))
	}
	r.done = nil
	return err
}

// bind puts the value of an input or constant where copyIn copies it from.
func (r *remote) bind(i int, a Arg) {
	v, at := &r.prog.Values[i], r.at[i]
	if v.Layout == Taps {
		r.pool.Taps(r.staging[at:at+v.Bytes], v.DType, a.Data, a.DType, v.Shape[0], v.Shape[1], taps(v.Shape))
	} else {
		r.pool.Convert(r.staging[at:at+v.Bytes], v.DType, a.Data, a.DType)
	}
	if n := len(r.filled); n > 0 && align(r.filled[n-1].to) == at {
		r.filled[n-1].to = at + v.Bytes
	} else {
		r.filled = append(r.filled, span{at, at + v.Bytes})
	}
}

// copyIn copies what was bound to the device, neighbours together.
func (r *remote) copyIn() error {
	r.loose = true
	for _, s := range r.filled {
		if err := r.dev.CopyIn(device.Compute, r.memory+device.Ptr(s.from), r.staging[s.from:s.to]); err != nil {
			return err
		}
	}
	r.filled = r.filled[:0]
	return nil
}

// call issues a call.
func (r *remote) call(i int) error {
	if r.kernels[i] == nil {
		return r.define(r.prog.Calls[i])
	}
	for k := range r.kernels[i] {
		if err := r.dev.Launch(device.Compute, &r.kernels[i][k]); err != nil {
			return err
		}
	}
	return nil
}

// The calls of a graph: fewer are issued as fast one by one, and a cancelled run ends with the graph it has issued.
const fewestTogether, mostTogether = 4, 64

// together is how many of n calls from i on have kernels, at least 1.
func (r *remote) together(i, n int) int {
	n = min(n, mostTogether, len(r.kernels)-i)
	for k := range n {
		if r.kernels[i+k] == nil {
			return max(1, k)
		}
	}
	return max(1, n)
}

// stretch issues n calls from i on, which have kernels. A stretch that comes again becomes a graph.
func (r *remote) stretch(i, n int) error {
	at := span{i, i + n}
	g, again := r.graphs[at]
	if !again || n < fewestTogether {
		for k := range n {
			if err := r.call(i + k); err != nil {
				return err
			}
		}
		r.graphs[at] = nil
		return nil
	}
	if g == nil {
		var kernels []*device.Kernel
		for _, ks := range r.kernels[i : i+n] {
			for k := range ks {
				kernels = append(kernels, &ks[k])
			}
		}
		var err error
		if g, err = r.dev.Capture(kernels); err != nil {
			return err
		}
		r.graphs[at] = g
	}
	return r.dev.LaunchGraph(device.Compute, g)
}

// define runs an op's definition on the host, between the kernels before it and those after.
func (r *remote) define(c Call) (err error) {
	defer panics.Recovered(&err)
	vals := make([]G.Value, len(c.In))
	for i, in := range c.In {
		a, err := r.fetch(in)
		if err != nil {
			return err
		}
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
	out := r.prog.Values[c.Out]
	if a.Shape.TotalSize() != out.Shape.TotalSize() || (a.DType == dtype.I32) != (out.DType == dtype.I32) {
		return errors.New("the op's result is not of the size its graph node says")
	}
	buf := r.whole[:out.Bytes]
	r.pool.Convert(buf, out.DType, a.Data, a.DType)
	if err := r.dev.CopyIn(device.Compute, r.args[c.Out].Ptr, buf); err != nil {
		return err
	}
	return r.sync()
}

// fetch copies a value to the host once it is computed, as float32 or int32.
func (r *remote) fetch(i int) (Arg, error) {
	v := r.prog.Values[i]
	stored := r.args[i].DType
	buf := r.whole[:v.Shape.TotalSize()*stored.Size()]
	if err := r.dev.CopyOut(device.Compute, buf, r.args[i].Ptr); err != nil {
		return Arg{}, err
	}
	if err := r.sync(); err != nil {
		return Arg{}, err
	}
	a := Arg{Shape: v.Shape, DType: onHost(stored), Data: make([]byte, 4*v.Shape.TotalSize())}
	r.pool.Convert(a.Data, a.DType, buf, stored)
	return a, nil
}

// onHost is the type that values of type t have on the host.
func onHost(t dtype.Type) dtype.Type {
	if t == dtype.I32 {
		return t
	}
	return dtype.F32
}

// stage makes room for a value on its way.
func (r *remote) stage() (err error) {
	if r.whole == nil {
		r.whole, err = r.lock(r.largest())
	}
	return err
}

// outputs issues the copies to the host of the results that are fetched. They are there after sync.
func (r *remote) outputs(fetched func(value int) bool) error {
	for _, o := range r.prog.Outputs {
		if !fetched(o) {
			continue
		}
		at := r.at[o]
		if err := r.dev.CopyOut(device.Compute, r.staging[at:at+r.prog.Values[o].Bytes], r.args[o].Ptr); err != nil {
			return err
		}
	}
	return nil
}

// output reads a result that is there.
func (r *remote) output(o int, to []byte) {
	v, at := &r.prog.Values[o], r.at[o]
	r.pool.Convert(to, onHost(v.DType), r.staging[at:at+v.Bytes], v.DType)
}

// sync waits for all that was issued. If that fails it is still to be waited for.
func (r *remote) sync() error {
	if err := r.dev.Record(r.done, device.Compute); err != nil {
		return err // Sync would wait for what was recorded before
	}
	if err := r.dev.Sync(r.done); err != nil {
		return err
	}
	r.loose = false
	return nil
}

// settle waits for what an earlier run issued, if nobody could.
func (r *remote) settle() error {
	if !r.loose {
		return nil
	}
	return r.sync()
}
