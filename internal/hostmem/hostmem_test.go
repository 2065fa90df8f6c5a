package hostmem

import (
	"errors"
	"math"
	"sync"
	"testing"
	"unsafe"
)

func TestBuffers(t *testing.T) {
	budget := NewBudget(1 << 20)
	m, other := New(budget), New(budget)
	var bufs [][]byte
	total := int64(0)
	for _, n := range []int{0, 1, 255, 1 << 15, 1<<15 + 1, 300_000} {
		b, err := m.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != n || uintptr(unsafe.Pointer(&b[:1][0]))%Align != 0 {
			t.Errorf("%d bytes for %d, at %p", len(b), n, b)
		}
		for i := range b {
			if b[i] != 0 {
				t.Fatalf("byte %d of %d is not zero", i, n)
			}
			b[i] = 1
		}
		bufs, total = append(bufs, b), total+int64(n)
	}
	if budget.Used() != total {
		t.Errorf("%d bytes are given out, %d are counted", total, budget.Used())
	}
	var e *Error
	if _, err := other.Alloc(1<<20 - int(total) + 1); !errors.As(err, &e) || e.Have != 1<<20-total {
		t.Errorf("past the budget: %v", err)
	}
	if err := other.Room(1<<20 - total + 1); !errors.As(err, new(*Error)) {
		t.Errorf("room past the budget: %v", err)
	}
	if _, err := other.Alloc(1<<20 - int(total)); err != nil {
		t.Errorf("what is left of the budget: %v", err)
	}
	for _, n := range []int{-1, math.MaxInt} {
		if _, err := m.Alloc(n); !errors.As(err, new(*Error)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	m.Free(bufs[2])
	m.Free(bufs[4])
	m.Free(nil)
	m.Close()
	other.Close()
	other.Close()
	if budget.Used() != 0 || budget.Peak() != 1<<20 {
		t.Errorf("%d bytes stay, the peak was %d", budget.Used(), budget.Peak())
	}
	defer func() {
		if recover() == nil {
			t.Error("a buffer can be freed twice")
		}
	}()
	m.Free(bufs[2])
}

func TestGoroutinesShareABudget(t *testing.T) {
	budget := NewBudget(1 << 20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			m := New(budget)
			defer m.Close()
			for i := range 200 {
				if b, err := m.Alloc(1 << 12 << (i % 8)); err == nil && i%3 > 0 {
					m.Free(b)
				}
			}
		})
	}
	wg.Wait()
	if budget.Used() != 0 || budget.Peak() > 1<<20 {
		t.Errorf("%d bytes stay, the peak was %d", budget.Used(), budget.Peak())
	}
}
