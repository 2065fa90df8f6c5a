package graphs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/loader"
)

// host is what the VMs of one runtime share. Its calls take turns.
type host struct {
	turn       chan struct{} // holds one element while a call runs
	busy       sync.Mutex    // held by a call, but not between the passes of a run
	running    atomic.Bool   // a run is between Begin and End
	calling    bool          // a hook is called in the middle of a pass
	closeLater bool          // Close was called by a hook: the pass does it
	open       context.Context
	end        context.CancelFunc // of open
	pool       *cpu.Pool
	weights    *program.Weights
	arena      *program.Arena
	memory     *hostmem.Memory // of weights, arena and sessions
	freed      int             // how often all of it was given back
	session    *session        // of the run between Begin and End, if it is on a device
	device     device.Device   // nil: the processor, and a host device for each offloaded image
	dtype      dtype.Type      // of activations and matrices on the device
	planned    device.Kernels  // of a device that is planned for, and is not there
	onClose    func() error    // gives back the sessions that are kept, before the device is closed
}

// ErrRunning is returned by what must not be done while a run is between Begin and End.
var ErrRunning = errors.New("a run is between Begin and End")

// ErrClosed is returned by a runtime, VM or pipeline after Close.
var ErrClosed = errors.New("used after Close")

func newHost(o *options) (*host, error) {
	if o.threads < 0 || o.threads > cpu.MaxThreads {
		return nil, &OptionError{"threads", fmt.Sprintf("is %d, want 1 to %d, or 0 for one per core", o.threads, cpu.MaxThreads)}
	}
	if err := hostmem.Check(); err != nil {
		return nil, err
	}
	budget := o.memory
	if budget == nil {
		budget = NewHostMemory(0)
	}
	mem := hostmem.New(budget)
	mem.Fail = func(n int) error {
		if o.seam.Alloc == nil {
			return nil
		}
		return o.seam.Alloc(n)
	}
	h := &host{turn: make(chan struct{}, 1), arena: program.NewArena(mem), memory: mem}
	var err error
	if h.device, h.dtype, err = o.device.open(); err != nil {
		return nil, err
	} else if h.device != nil {
		if err := o.addKernels(h.device); err != nil {
			return nil, errors.Join(err, h.device.Close())
		}
		if o.seam.Wrap != nil {
			h.device = o.seam.Wrap(h.device)
		}
	}
	if o.device.described {
		h.planned = device.Kernels{Names: map[string]bool{}, TensorCore: true, Processors: 128}
	}
	h.pool = cpu.NewPool(o.threads)
	h.weights = program.NewWeights(loader.Sources(o.sources), h.pool, mem, h.device)
	h.open, h.end = context.WithCancel(context.Background())
	runtime.AddCleanup(h, (*hostmem.Memory).Close, mem) // where nobody calls close
	return h, nil
}

// acquire waits for the caller's turn, which yield ends.
func (h *host) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
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
	return h.guarded(func() (err error) {
		if h.closed() {
			return ErrClosed
		}
		both := untilClose{Context: ctx, host: h}
		defer both.end()
		defer func() {
			if h.closeLater {
				h.closeLater = false
				err = errors.Join(err, h.giveBack())
			}
		}()
		return f(&both)
	})
}

// callback calls a hook in the middle of a pass. It may call Close, and what else does not wait for the run.
func (h *host) callback(f func() error) error {
	h.calling = true
	h.busy.Unlock()
	defer func() {
		h.busy.Lock()
		h.calling = false
	}()
	return f()
}

// guarded calls f while Close waits. A panic becomes an error here, before anything is unlocked or yielded.
func (h *host) guarded(f func() error) (err error) {
	h.busy.Lock()
	defer h.busy.Unlock()
	defer panics.Recovered(&err)
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
	context.Context // the caller's
	host            *host

	merging sync.Mutex
	merged  context.Context // nil until somebody waits for it
	cancel  func()
}

func (c *untilClose) Err() error {
	if err := c.Context.Err(); err != nil || !c.host.closed() {
		return err
	}
	return ErrClosed
}

// Done implements context.Context. Between operations Err is asked; what is read from a disk waits.
func (c *untilClose) Done() <-chan struct{} {
	c.merging.Lock()
	defer c.merging.Unlock()
	if c.merged == nil {
		both, cancel := context.WithCancel(c.Context)
		stop := context.AfterFunc(c.host.open, cancel)
		c.merged, c.cancel = both, func() { stop(); cancel() }
	}
	return c.merged.Done()
}

func (c *untilClose) end() {
	if c.cancel != nil {
		c.cancel()
	}
}

func (h *host) closed() bool { return h.open.Err() != nil }

// close stops the call that runs, if one does, and ends the threads. A pass that is in a hook does it when the hook
// returns.
func (h *host) close() error {
	h.end()
	h.busy.Lock()
	defer h.busy.Unlock()
	if h.calling {
		h.closeLater = true
		return nil
	}
	return h.giveBack()
}

// giveBack gives back all that the host has.
func (h *host) giveBack() error {
	var err error
	if h.session != nil { // the run is between two passes
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

// target is what graphs are compiled for. One in float32 multiplies as PyTorch's convolutions do by default: in TF32.
func (h *host) target(float32 bool) program.Target {
	t := program.Target{Kernels: h.planned, DType: h.dtype}
	if h.device != nil {
		t.Kernels = h.device.Kernels()
	}
	if !t.Kernels.Any() {
		return program.Target{}
	}
	if float32 && t.DType == dtype.F16 {
		t.DType, t.Kernels.TF32 = dtype.F32, true
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
