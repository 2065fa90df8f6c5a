package program

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
)

// Watcher is told of a runner's calls.
type Watcher interface {
	// Looks reports whether a call's tensors are wanted: it is then issued alone, and Instead and See are called for it.
	Looks(call int) bool
	// Before is called before a call is run or issued, and After afterwards. Of calls that are issued together, Before is
	// called for all first.
	Before(call int) error
	After(call int) error
	// Instead is called before a call whose inputs are there. If done it has written the result, and the call is not run.
	Instead(call int) (done bool, err error)
	// See is called when a call's result is there, before anything reads it.
	See(call int) error
}

// Read returns a value that is there: where it lies in ordinary memory, or a copy of it from a device. Values of a host
// are valid until the next call. Weights that are packed for a kernel cannot be read.
func (r *Runner) Read(value int) (a Arg, err error) {
	v := &r.prog.Values[value]
	if v.Kind == Weight && v.Layout != Plain && v.Layout != Rows {
		return a, fmt.Errorf("the weight %s is laid out for its kernel; its source has it as it is stored", v.Name)
	}
	if r.remote == nil {
		return r.args[value], nil
	}
	if err := r.remote.stage(); err != nil {
		return a, err
	}
	return r.remote.fetch(value)
}

// Write changes a value that is there and is no weight.
func (r *Runner) Write(value int, x []float32) error {
	v := &r.prog.Values[value]
	switch {
	case v.Kind != Activation:
		return fmt.Errorf("%q is no result, and cannot be changed", v.Name)
	case v.DType == dtype.I32:
		return fmt.Errorf("%q holds int32", v.Name)
	case len(x) != v.Shape.TotalSize():
		return fmt.Errorf("%q is of shape %v, which %d numbers do not fill", v.Name, v.Shape, len(x))
	}
	if r.remote == nil {
		copy(r.args[value].F32(), x)
		return nil
	}
	if err := r.remote.stage(); err != nil {
		return err
	}
	buf := r.remote.whole[:v.Bytes]
	r.pool.Convert(buf, v.DType, Bytes(x), dtype.F32)
	if err := r.remote.dev.CopyIn(device.Compute, r.remote.args[value].Ptr, buf); err != nil {
		return err
	}
	return r.remote.sync()
}

// Program is what the runner runs.
func (r *Runner) Program() *Program { return r.prog }

// Watchers are several, told in order.
type Watchers []Watcher

func (ws Watchers) each(f func(Watcher) error) error {
	for _, w := range ws {
		if err := f(w); err != nil {
			return err
		}
	}
	return nil
}

func (ws Watchers) Looks(i int) bool {
	return slices.ContainsFunc(ws, func(w Watcher) bool { return w.Looks(i) })
}

func (ws Watchers) Before(i int) error {
	return ws.each(func(w Watcher) error { return w.Before(i) })
}

func (ws Watchers) After(i int) error {
	return ws.each(func(w Watcher) error { return w.After(i) })
}

func (ws Watchers) See(i int) error {
	return ws.each(func(w Watcher) error { return w.See(i) })
}

func (ws Watchers) Instead(i int) (done bool, err error) {
	err = ws.each(func(w Watcher) (err error) {
		if !done {
			done, err = w.Instead(i)
		}
		return err
	})
	return done, err
}

// Unwatched is a watcher that is told nothing, to build others on.
type Unwatched struct{}

func (Unwatched) Looks(int) bool            { return false }
func (Unwatched) Before(int) error          { return nil }
func (Unwatched) After(int) error           { return nil }
func (Unwatched) Instead(int) (bool, error) { return false, nil }
func (Unwatched) See(int) error             { return nil }
