// Package device is the seam between plans and hardware. Host is ordinary memory with a budget of its own, on
// which everything above the seam is tested.
package device

import (
	"fmt"
	"sync"

	"github.com/euryale-ml/euryale/internal/hostmem"
)

// Host is memory that counts what it gives out.
type Host struct {
	budget int // 0: no limit
	mem    *hostmem.Memory

	mu         sync.Mutex
	used, peak int
}

// NewHost returns a device with that many bytes of mem, 0 for no limit but that of mem.
func NewHost(budget int, mem *hostmem.Memory) *Host { return &Host{budget: budget, mem: mem} }

// MemoryError reports that the device has no room.
type MemoryError struct{ Need, Free int }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("out of device memory: %d bytes are needed, %d are free", e.Need, e.Free)
}

// Alloc returns n zero bytes aligned to 256.
func (h *Host) Alloc(n int) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.budget > 0 && h.used+n > h.budget {
		return nil, &MemoryError{n, h.budget - h.used}
	}
	b, err := h.mem.Alloc(n)
	if err != nil {
		return nil, err
	}
	h.used += n
	h.peak = max(h.peak, h.used)
	return b, nil
}

// Free gives memory back.
func (h *Host) Free(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used -= len(b)
	h.mem.Free(b)
}

// Used and Peak are the bytes given out now, and the most at any time.
func (h *Host) Used() int { h.mu.Lock(); defer h.mu.Unlock(); return h.used }
func (h *Host) Peak() int { h.mu.Lock(); defer h.mu.Unlock(); return h.peak }
