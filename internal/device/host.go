package device

import (
	"errors"
	"sync"
	"time"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/hostmem"
)

// Host is memory that counts what it gives out. Work of the compute stream is done by the caller, at once; the copy
// stream is a goroutine.
type Host struct {
	budget int // 0: no limit
	mem    *hostmem.Memory

	mu         sync.Mutex
	used, peak int
	blocks     map[Ptr][]byte // given out

	BeforeCopy func() // if set, called by the copy stream; for tests

	copies chan func() // nil until the first
	ended  chan struct{}
}

var _ Device = (*Host)(nil)

// NewHost returns a device with that many bytes of mem, 0 for no limit but that of mem.
func NewHost(budget int, mem *hostmem.Memory) *Host {
	return &Host{budget: budget, mem: mem, blocks: map[Ptr][]byte{}}
}

func (h *Host) Name() string     { return "host" }
func (h *Host) Kernels() Kernels { return Kernels{} }

// Alloc returns zero bytes.
func (h *Host) Alloc(n int) (Ptr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.budget > 0 && h.used+n > h.budget {
		return 0, &MemoryError{n, h.budget - h.used}
	}
	b, err := h.mem.Alloc(n)
	if err != nil {
		return 0, err
	}
	p := Ptr(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	h.blocks[p] = b
	h.used += n
	h.peak = max(h.peak, h.used)
	return p, nil
}

func (h *Host) Free(p Ptr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.blocks[p]
	if !ok {
		return errors.New("device: memory that was not given out is freed")
	}
	delete(h.blocks, p)
	h.used -= len(b)
	h.mem.Free(b)
	return nil
}

// Bytes views n bytes of device memory.
func (h *Host) Bytes(p Ptr, n int) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	for base, b := range h.blocks {
		if p >= base && p+Ptr(n) <= base+Ptr(len(b)) {
			at := int(p - base)
			return b[at : at+n : at+n]
		}
	}
	panic("device: memory that was not given out is used")
}

// Lock and Unlock have nothing to do.
func (h *Host) Lock([]byte) error   { return nil }
func (h *Host) Unlock([]byte) error { return nil }

func (h *Host) CopyIn(s Stream, dst Ptr, src []byte) error {
	to := h.Bytes(dst, len(src))
	h.issue(s, func() {
		if s == Copy && h.BeforeCopy != nil {
			h.BeforeCopy()
		}
		copy(to, src)
	})
	return nil
}

func (h *Host) CopyOut(s Stream, dst []byte, src Ptr) error {
	from := h.Bytes(src, len(dst))
	h.issue(s, func() { copy(dst, from) })
	return nil
}

// errNoKernels: ops run on the host by their host form.
var errNoKernels = errors.New("device: the host device has no kernels")

func (h *Host) Launch(Stream, *Kernel) error     { return errNoKernels }
func (h *Host) Capture([]*Kernel) (Graph, error) { return nil, errNoKernels }
func (h *Host) LaunchGraph(Stream, Graph) error  { return errNoKernels }
func (h *Host) FreeGraph(Graph) error            { return errNoKernels }

func (h *Host) issue(s Stream, f func()) {
	if s == Compute {
		f()
		return
	}
	if h.copies == nil {
		h.copies, h.ended = make(chan func(), 1<<12), make(chan struct{})
		go h.work(h.copies, h.ended)
	}
	h.copies <- f
}

// work is the copy stream.
func (h *Host) work(copies chan func(), ended chan struct{}) {
	defer close(ended)
	for f := range copies {
		f()
	}
}

// hostEvent is one recording after another.
type hostEvent struct{ last *recording }

// recording is closed when it happens.
type recording struct {
	happened chan struct{}
	at       time.Time
}

func (h *Host) NewEvent() (Event, error) { return &hostEvent{}, nil }
func (h *Host) FreeEvent(Event) error    { return nil }

func (h *Host) Record(e Event, s Stream) error {
	r := &recording{happened: make(chan struct{})}
	e.(*hostEvent).last = r
	h.issue(s, func() { r.at = time.Now(); close(r.happened) })
	return nil
}

// Wait holds the caller back if the stream is the compute stream, which is the caller's.
func (h *Host) Wait(s Stream, e Event) error {
	if r := e.(*hostEvent).last; r != nil { // never recorded: nothing to wait for
		h.issue(s, func() { <-r.happened })
	}
	return nil
}

func (h *Host) Sync(e Event) error { return h.Wait(Compute, e) }

func (h *Host) Elapsed(from, to Event) (time.Duration, error) {
	a, b := from.(*hostEvent).last, to.(*hostEvent).last
	if a == nil || b == nil {
		return 0, errors.New("device: an event that was not recorded")
	}
	<-a.happened
	<-b.happened
	return b.at.Sub(a.at), nil
}

// Memory is the budget's; without one, both are 0.
func (h *Host) Memory() (free, total int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(0, h.budget-h.used), h.budget, nil
}

// Close ends the copy stream.
func (h *Host) Close() error {
	if h.copies != nil {
		close(h.copies)
		<-h.ended
		h.copies = nil
	}
	return nil
}

// Used and Peak are the bytes given out now, and the most at any time.
func (h *Host) Used() int { h.mu.Lock(); defer h.mu.Unlock(); return h.used }
func (h *Host) Peak() int { h.mu.Lock(); defer h.mu.Unlock(); return h.peak }
