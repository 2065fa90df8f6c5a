package program

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
	G "gorgonia.org/gorgonia"
)

// remote is what a Runner has for a program that runs on a device with kernels. Work is issued to the compute stream and
// runs behind the caller until the outputs are fetched, at the end of a run.
type remote struct {
	dev     device.Device
	mem     *hostmem.Memory
	prog    *Program
	args    []device.Arg
	kernels [][]device.Kernel // per call; nil where the op's definition runs on the host

	staging []byte // locked: inputs, constants and outputs on their way, each at its place
	at      map[int]int
	whole   []byte // locked: one value on its way, for what only the host can do
	done    device.Event
}

// newRemote binds every value to its place and makes the launches of every call.
func newRemote(p *Program, w *Weights, d Device) (r *remote, err error) {
	r = &remote{dev: d.Dev, mem: w.mem, prog: p, args: make([]device.Arg, len(p.Values)), at: map[int]int{}}
	defer func() {
		if err != nil {
			if e := r.close(); e != nil {
				err = errors.Join(err, e)
			}
		}
	}()
	inputs, staged := device.Ptr(p.inputArea()), 0
	place := d.Memory
	for i, v := range p.Values {
		a := device.Arg{Shape: v.Shape, DType: v.DType}
		switch v.Kind {
		case Activation:
			a.Ptr = d.Memory + inputs + device.Ptr(v.Offset)
		case Input, Constant:
			a.Ptr = place
			place += device.Ptr(align(v.inputBytes()))
			r.at[i], staged = staged, staged+align(v.Bytes)
		case Weight:
			if v.Last < 0 {
				continue
			}
			a.Ptr, a.DType = d.Weight(v.Name, v.Layout), w.get(v).DType
		}
		r.args[i] = a
	}
	for _, o := range p.Outputs {
		if _, ok := r.at[o]; !ok {
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
			if r.whole == nil {
				if r.whole, err = r.lock(r.largest()); err != nil {
					return err
				}
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
	if r.done != nil {
		err = errors.Join(err, r.dev.FreeEvent(r.done))
	}
	r.done = nil
	return err
}

// bind copies the value of an input or constant to the device.
func (r *remote) bind(i int, a Arg) error {
	v, at := &r.prog.Values[i], r.at[i]
	buf := r.staging[at : at+v.Bytes]
	if v.Layout == Taps {
		a.Data = taps(a.Data, a.DType.Size(), v.Shape)
	}
	dtype.Convert(buf, v.DType, a.Data, a.DType)
	return r.dev.CopyIn(device.Compute, r.args[i].Ptr, buf)
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

// define runs an op's definition on the host, between the kernels before it and those after.
func (r *remote) define(c Call) (err error) {
	defer Recovered(&err)
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
	dtype.Convert(buf, out.DType, a.Data, a.DType)
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
	dtype.Convert(a.Data, a.DType, buf, stored)
	return a, nil
}

// onHost is the type that values of type t have on the host.
func onHost(t dtype.Type) dtype.Type {
	if t == dtype.I32 {
		return t
	}
	return dtype.F32
}

// see is fetch for the result of a call.
func (r *remote) see(i int) (a Arg, err error) {
	if r.whole == nil {
		if r.whole, err = r.lock(r.largest()); err != nil {
			return a, err
		}
	}
	return r.fetch(r.prog.Calls[i].Out)
}

// outputs issues the copies of the results to the host. They are there after sync.
func (r *remote) outputs() error {
	for _, o := range r.prog.Outputs {
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
	dtype.Convert(to, onHost(v.DType), r.staging[at:at+v.Bytes], v.DType)
}

// sync waits for all that was issued.
func (r *remote) sync() error {
	return errors.Join(r.dev.Record(r.done, device.Compute), r.dev.Sync(r.done))
}
