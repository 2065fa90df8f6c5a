// Package device is the seam between plans and hardware. Host is ordinary memory with a budget of its own, on
// which everything above the seam is tested.
package device

import (
	"fmt"
	"sync"
	"unsafe"
)

// Host is memory that counts what it gives out.
type Host struct {
	budget int // 0: no limit

	mu         sync.Mutex
	used, peak int
}

// NewHost returns a device with that many bytes, 0 for no limit.
func NewHost(budget int) *Host { return &Host{budget: budget} }

// MemoryError reports that the device has no room.
type MemoryError struct{ Need, Free int }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("out of device memory: %d bytes are needed, %d are free", e.Need, e.Free)
}

const alignment = 256

// Alloc returns n zero bytes aligned to 256.
func (h *Host) Alloc(n int) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.budget > 0 && h.used+n > h.budget {
		return nil, &MemoryError{n, h.budget - h.used}
	}
	h.used += n
	h.peak = max(h.peak, h.used)
	b := make([]byte, n+alignment)
	off := int(-uintptr(unsafe.Pointer(&b[0])) & (alignment - 1))
	return b[off : off+n : off+n], nil
}

// Free gives memory back.
func (h *Host) Free(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used -= len(b)
}

// Used and Peak are the bytes given out now, and the most at any time.
func (h *Host) Used() int { h.mu.Lock(); defer h.mu.Unlock(); return h.used }
func (h *Host) Peak() int { h.mu.Lock(); defer h.mu.Unlock(); return h.peak }
