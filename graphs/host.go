package graphs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/internal/program"
)

// host is what the VMs of one runtime share. Its calls take turns.
type host struct {
	turn    chan struct{} // holds one element while a call runs
	running sync.Mutex    // held by a call, but not during the caller's functions
	open    context.Context
	end     context.CancelFunc // of open
	pool    *cpu.Pool
	weights *program.Weights
	arena   *program.Arena
	memory  *hostmem.Memory // of weights, arena and sessions
	freed   int             // how often all of it was given back
	session *session        // of the image that is made, if it runs on a device
	device  device.Device   // nil: the processor, and a host device for each offloaded image
	dtype   dtype.Type      // of activations and matrices on the device
	planned device.Kernels  // of a device that is planned for, and is not there
	onClose func() error    // gives back the sessions that are kept, before the device is closed
}

// ErrClosed is returned by a runtime, VM or pipeline after Close.
var ErrClosed = errors.New("used after Close")

func newHost(o *options) (*host, error) {
	if o.threads < 0 || o.threads > cpu.MaxThreads {
		return nil, &RequestError{"threads", fmt.Sprintf("is %d, want 1 to %d, or 0 for one per core", o.threads, cpu.MaxThreads)}
	}
	if err := hostmem.Check(); err != nil {
		return nil, err
	}
	budget := o.memory
	if budget == nil {
		budget = NewHostMemory(0)
	}
	mem := hostmem.New(budget)
	h := &host{turn: make(chan struct{}, 1), arena: program.NewArena(mem), memory: mem}
	var err error
	if h.device, h.dtype, err = o.device.open(); err != nil {
		return nil, err
	}
	if o.device.described {
		h.planned = device.Kernels{Names: map[string]bool{}, TensorCore: true, Processors: 128}
	}
	h.pool = cpu.NewPool(o.threads)
	h.weights = program.NewWeights(sources(o.sources), h.pool, mem, h.device)
	h.open, h.end = context.WithCancel(context.Background())
	runtime.AddCleanup(h, (*hostmem.Memory).Close, mem) // where nobody calls close
	return h, nil
}

// acquire waits for the caller's turn, which yield ends.
func (h *host) acquire(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.open.Done():
		return ErrClosed
	}
}

func (h *host) yield() { <-h.turn }

// do waits for the caller's turn and calls f.
func (h *host) do(ctx context.Context, f func(context.Context) error) error {
	if err := h.acquire(ctx); err != nil {
		return err
	}
	defer h.yield()
	return h.locked(ctx, f)
}

// locked calls f, in the caller's turn. Close waits for it, and ends its context.
func (h *host) locked(ctx context.Context, f func(context.Context) error) error {
	return h.guarded(func() error {
		if h.closed() {
			return ErrClosed
		}
		both, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(h.open, cancel)()
		return f(untilClose{both, ctx, h})
	})
}

// guarded calls f while Close waits. A panic becomes an error here, before anything is unlocked or yielded.
func (h *host) guarded(f func() error) (err error) {
	h.running.Lock()
	defer h.running.Unlock()
	defer program.Recovered(&err)
	return f()
}

// finish ends what runs on a device, complete or not, and waits for all of it.
func (h *host) finish() (*OffloadStats, error) {
	s := h.session
	if s == nil {
		return nil, nil
	}
	st, err := s.end()
	return &OffloadStats{Strategy: s.plan.Strategy, Peak: st.Peak, Uploaded: st.Uploaded, CopyTime: st.CopyTime, Stalled: st.Stalled,
		Plan: s.plan, Inventory: s.inv, Events: s.engine.Events()}, err
}

// untilClose is the caller's context for one call; Close ends it too.
type untilClose struct {
	context.Context
	caller context.Context
	host   *host
}

func (c untilClose) Err() error {
	if err := c.caller.Err(); err != nil || !c.host.closed() {
		return err
	}
	return ErrClosed
}

// callback calls a function of the caller's, which may call Close.
func (h *host) callback(f func() error) error {
	h.running.Unlock()
	defer h.running.Lock()
	return f()
}

func (h *host) closed() bool { return h.open.Err() != nil }

// close stops the call that runs, if one does, and ends the threads.
func (h *host) close() error {
	h.end()
	h.running.Lock()
	defer h.running.Unlock()
	var err error
	if h.session != nil { // the call that runs is in a function of the caller's
		_, err = h.session.engine.Stop()
	}
	h.pool.Close()
	if h.onClose != nil {
		err = errors.Join(err, h.onClose())
	}
	if h.device != nil {
		err = errors.Join(err, h.weights.Release(), h.device.Close())
		h.device = nil
	}
	h.memory.Close()
	return err
}

// release gives weights and arena back; the next run begins anew.
func (h *host) release() error {
	h.arena.Release()
	h.freed++
	return h.weights.Release()
}

// target is what the graphs of a component are compiled for.
func (h *host) target(upcast bool) program.Target {
	t := program.Target{Kernels: h.planned, DType: h.dtype}
	if h.device != nil {
		t.Kernels = h.device.Kernels()
	}
	if !t.Kernels.Any() {
		return program.Target{}
	}
	if upcast && t.DType == dtype.F16 {
		t.DType, t.Kernels.TF32 = dtype.F32, true // as PyTorch's convolutions do by default
	}
	return t
}

// HostMemory is a budget for the large buffers of pipelines: weights, activations, device memory that is the host's.
// Pipelines may share one; they do not wait for each other's memory, but return a *MemoryError.
type HostMemory = hostmem.Budget

// NewHostMemory allows that many bytes, 0 for no limit but the system's.
func NewHostMemory(limit int64) *HostMemory { return hostmem.NewBudget(limit) }

// MemoryError reports that there is no room for weights, activations or pictures. A runtime or pipeline that returns
// it has given back all it had, and can be used again.
type MemoryError = hostmem.Error
