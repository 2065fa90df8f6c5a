// Package hostmem gives out the large buffers of the host: weights, activations, what is read from disk, the memory of
// the host device.
//
// The Go runtime ends the process when it finds no memory, so these buffers are not of the Go heap: the system maps
// them, which can fail with an error, and they are given back when they are freed, not when a collector runs. What
// is left on the heap is small, whatever the size of a model.
package hostmem

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/size"
	"github.com/euryale-ml/euryale/internal/sysmem"
)

// Align is the alignment of every buffer, in bytes.
const Align = 256

// Headroom is the memory that is left to the Go runtime, for its heap, stacks and threads.
const Headroom = 192 << 20

// Error reports that there is no room for a buffer.
type Error struct{ Need, Have int64 }

func (e *Error) Error() string {
	return fmt.Sprintf("out of memory: %d MiB more are needed, %d MiB are free", (e.Need+1<<20-1)>>20, max(0, e.Have)>>20)
}

// Budget is a number of bytes that several Memories share. They do not wait for each other.
type Budget struct {
	limit int64 // 0: none

	mu         sync.Mutex
	used, peak int64
}

// NewBudget allows that many bytes, 0 for no limit but the system's.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used and Peak are the bytes given out now, and the most at any time.
func (b *Budget) Used() int64 { b.mu.Lock(); defer b.mu.Unlock(); return b.used }
func (b *Budget) Peak() int64 { b.mu.Lock(); defer b.mu.Unlock(); return b.peak }

// take counts n bytes as given out. With commit false it only finds out whether it could.
func (b *Budget) take(n int64, commit bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit > 0 && n > b.limit-b.used {
		return &Error{n, b.limit - b.used}
	}
	if commit {
		b.used += n
		b.peak = max(b.peak, b.used)
	}
	return nil
}

func (b *Budget) give(n int64) { b.mu.Lock(); b.used -= n; b.mu.Unlock() }

// Memory is the buffers of one owner.
type Memory struct {
	budget *Budget

	mu     sync.Mutex
	blocks map[*byte]block

	// Fail, if set, is asked before each buffer: tests have some fail with it.
	Fail func(n int) error
}

// block is what the system gave for a buffer of n bytes.
type block struct {
	raw    []byte
	n      int
	mapped bool
}

// New returns an owner without buffers.
func New(b *Budget) *Memory { return &Memory{budget: b, blocks: map[*byte]block{}} }

// Budget is what the buffers count against.
func (m *Memory) Budget() *Budget { return m.budget }

// Alloc returns n zero bytes.
func (m *Memory) Alloc(n int) ([]byte, error) {
	total, ok := size.Of(n).Add(size.Of(Align)).Int()
	if !ok {
		return nil, &Error{int64(n), 0}
	}
	if m.Fail != nil {
		if err := m.Fail(n); err != nil {
			return nil, err
		}
	}
	if err := m.budget.take(int64(n), true); err != nil {
		return nil, err
	}
	b, err := allocate(total)
	if err != nil {
		m.budget.give(int64(n))
		return nil, err
	}
	b.n = n
	buf := aligned(b.raw, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocks[&buf[:1][0]] = b
	return buf, nil
}

// aligned is n bytes of raw that begin on a multiple of Align.
func aligned(raw []byte, n int) []byte {
	off := int(-uintptr(unsafe.Pointer(&raw[0])) & (Align - 1))
	return raw[off : off+n : off+max(n, 1)]
}

// allocate takes a block from the system, or a small one from the heap.
func allocate(n int) (b block, err error) {
	if !mappable || n < 1<<15 {
		return block{raw: make([]byte, n)}, nil
	}
	if left, ok := sysmem.Limit(); ok && int64(n) > left-Headroom {
		return b, &Error{int64(n), left - Headroom}
	}
	if b.raw, err = mapMemory(n); err != nil {
		return b, &Error{int64(n), 0}
	}
	b.mapped = true
	return b, nil
}

// Check reports an error if there is not even the memory that the Go runtime needs.
func Check() error {
	if have, ok := sysmem.Available(); ok && have < Headroom {
		return &Error{Headroom, have}
	}
	return nil
}

// Room reports an error if n bytes more could not be given out. It is asked before memory is taken from the Go heap.
func (m *Memory) Room(n int64) error {
	if m.Fail != nil {
		if err := m.Fail(int(n)); err != nil {
			return err
		}
	}
	if have, ok := sysmem.Available(); ok && n > have-Headroom {
		return &Error{n, have - Headroom}
	}
	return m.budget.take(n, false)
}

// Free gives a buffer back. Nothing may refer to it any more.
func (m *Memory) Free(buf []byte) {
	if cap(buf) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := &buf[:1][0]
	b, ok := m.blocks[at]
	if !ok {
		panic("hostmem: a buffer is freed that is not given out")
	}
	delete(m.blocks, at)
	m.release(b)
}

// Abandon leaves a buffer where it is for ever, still counted: something outside may still use it.
func (m *Memory) Abandon(buf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blocks, &buf[:1][0])
}

func (m *Memory) release(b block) {
	if b.mapped {
		unmap(b.raw)
	}
	m.budget.give(int64(b.n))
}

// Close frees every buffer.
func (m *Memory) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, b := range m.blocks {
		delete(m.blocks, at)
		m.release(b)
	}
}
