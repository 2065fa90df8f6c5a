package graphs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/stack"
	G "gorgonia.org/gorgonia"
)

// Runtime is where any number of graphs are compiled and run: they share weights, threads, memory, the device and one
// budget for it. It may be used from several goroutines; runs take turns.
type Runtime struct {
	host *host
	opt  *options

	session  *session   // of the last list of stages that was offloaded
	listings []*listing // the last used first

	hooking sync.Mutex // of opt.hooks
}

// Open makes a runtime. With none of the options it runs graphs on the processor, in ordinary memory.
func Open(opts ...Option) (rt *Runtime, err error) {
	rt, err = open("a runtime", opts)
	return rt, stack.With(err)
}

// open makes the runtime of a kind of user.
func open(kind string, opts []Option) (*Runtime, error) {
	o, err := gather(kind, opts)
	if err != nil {
		return nil, err
	}
	h, err := newHost(o)
	if err != nil {
		return nil, err
	}
	rt := &Runtime{host: h, opt: o}
	h.onClose = rt.endSession
	return rt, nil
}

// Close ends the threads and gives the memory back. A run, and every later one, returns ErrClosed. Close may be
// called from any goroutine, between Begin and End too, and more than once.
func (rt *Runtime) Close() error { return stack.With(rt.host.close()) }

// Done is closed by Close at once, before it waits for what runs.
func (rt *Runtime) Done() <-chan struct{} { return rt.host.open.Done() }

// Compile compiles a graph for some of its nodes, all of one graph, which must not change afterwards. Leaves whose
// names a source of WithWeights has are weights; the others are bound with gorgonia.Let.
func (rt *Runtime) Compile(outputs ...*G.Node) (*VM, error) {
	return rt.CompileWith(CompileOptions{}, outputs...)
}

// CompileOptions are choices for one graph.
type CompileOptions struct {
	// Given are nodes that another graph computes, or the caller: they are bound as leaves are, and nothing beneath
	// them is computed.
	Given []*G.Node
	// Float32 computes in float32 on a device that was opened for float16, whose range some networks leave.
	Float32 bool
}

// CompileWith is Compile with choices.
func (rt *Runtime) CompileWith(o CompileOptions, outputs ...*G.Node) (vm *VM, err error) {
	defer stack.Add(&err)
	if len(outputs) == 0 || outputs[0] == nil {
		return nil, errors.New("there are no outputs to compile, or the first is nil")
	}
	return rt.compile(outputs[0].Graph(), outputs, o)
}

// compile compiles a graph, unless the runtime is closed.
func (rt *Runtime) compile(g *G.ExprGraph, outputs []*G.Node, o CompileOptions) (vm *VM, err error) {
	err = rt.host.guarded(func() (err error) {
		if rt.host.closed() {
			return ErrClosed
		}
		if vm, err = rt.host.compile(g, outputs, o); err != nil {
			return err
		}
		vm.rt = rt
		if err := rt.opt.unread(vm.prog); err != nil {
			return err
		}
		return vm.letWeights()
	})
	if err != nil {
		return nil, err
	}
	return vm, nil
}

// Device is the name of the device that graphs run on, "" for the processor.
func (rt *Runtime) Device() string {
	if rt.host.device == nil {
		return ""
	}
	return rt.host.device.Name()
}

// LinkRate is the bytes per second at which the device copies from page-locked memory, the best of five copies of that
// many.
func (rt *Runtime) LinkRate(ctx context.Context, bytes int) (rate float64, err error) {
	defer stack.Add(&err)
	err = rt.host.do(ctx, func(context.Context) error {
		if rt.host.device == nil {
			return errors.New("there is no link: graphs run on the processor")
		}
		rate, err = device.LinkRate(rt.host.device, rt.host.memory, bytes)
		return err
	})
	return rate, err
}

// LoadTime is what reading and packing weights has taken so far.
func (rt *Runtime) LoadTime() time.Duration { return rt.host.weights.Took() }

// Room returns a *MemoryError if the budget of WithHostMemory, or the system, has no room for that many bytes more,
// which the caller would take from the Go heap. The runtime has then given back all it had.
func (rt *Runtime) Room(ctx context.Context, bytes int64) (err error) {
	defer stack.Add(&err)
	return rt.host.do(ctx, func(context.Context) error {
		err := rt.host.memory.Room(bytes)
		if errors.As(err, new(*MemoryError)) {
			err = errors.Join(err, rt.endSession(), rt.host.release())
		}
		return err
	})
}

// Planned reports whether runs are planned: on a device, or with a strategy.
func (rt *Runtime) Planned() bool {
	return len(rt.opt.strategies) > 0 || rt.host.device != nil
}

// afterFailure gives back what a run that failed cannot be trusted with: all memory where there was too little, and the
// session after a panic, which may have left it anywhere.
func (rt *Runtime) afterFailure(err error) error {
	return rt.host.guarded(func() error {
		switch {
		case rt.host.closed(): // Close has done it
			return nil
		case errors.As(err, new(*MemoryError)):
			return errors.Join(rt.endSession(), rt.host.release())
		case errors.As(err, new(*PanicError)):
			_, e := rt.host.finish()
			return errors.Join(e, rt.endSession())
		}
		return nil
	})
}

// prepare is the session of stages.
func (rt *Runtime) prepare(ctx context.Context, stages []Stage) (*session, error) {
	l, err := rt.planned(stages)
	if err != nil {
		return nil, err
	}
	if rt.session != nil && rt.session.key == l.key {
		return rt.session, nil
	}
	if err := rt.endSession(); err != nil {
		return nil, err
	}
	s, err := rt.host.newSession(ctx, l, rt.opt)
	if err != nil {
		return nil, err
	}
	rt.session = s
	return s, nil
}

// endSession gives the device memory back.
func (rt *Runtime) endSession() error {
	s := rt.session
	rt.session = nil
	return s.close()
}
