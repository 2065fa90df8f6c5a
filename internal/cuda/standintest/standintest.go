//go:build gpu

// Package standintest drives the stand-in driver from tests: the C functions of ../standin/standin.h, which has the
// meaning of each. The functions are looked up when the process runs, so that a test binary also runs on a real driver,
// where Start skips.
package standintest

/*
#cgo CFLAGS: -I${SRCDIR}/../standin
#cgo LDFLAGS: -ldl -lcuda
#include <dlfcn.h>
#include <stdlib.h>
#include "standin.h"

#define FIND(f) __typeof__(f) *found = (__typeof__(f) *)dlsym(RTLD_DEFAULT, #f)

static int present(void) { return dlsym(RTLD_DEFAULT, "euryaleStandinReset") != NULL; }
static void reset(void) { FIND(euryaleStandinReset); found(); }
static const char *findings(void) { FIND(euryaleStandinReport); return found(); }
static void clear_findings(void) { FIND(euryaleStandinClearReport); found(); }
static void set_schedule(int kind, uint64_t seed) { FIND(euryaleStandinSetSchedule); found(kind, seed); }
static void set_fault(const char *name, uint64_t n, int code, int persistent) { FIND(euryaleStandinSetFault); found(name, n, code, persistent); }
static void set_mutant(const char *name, uint64_t n, int kind, int every) { FIND(euryaleStandinSetMutant); found(name, n, kind, every); }
static uint64_t calls(const char *name) { FIND(euryaleStandinCalls); return found(name); }
static void set_memory(size_t capacity, size_t taken, size_t largest) { FIND(euryaleStandinSetMemory); found(capacity, taken, largest); }
static void set_memory_info(size_t free, size_t total) { FIND(euryaleStandinSetMemoryInfo); found(free, total); }
static void memory(size_t *live, size_t *peak, size_t *host) { FIND(euryaleStandinMemory); found(live, peak, host); }
static size_t live(void) { FIND(euryaleStandinLive); return found(); }
static void annotate(CUdeviceptr ptr, size_t bytes, int state, uintptr_t stream) { FIND(euryaleStandinAnnotate); found(ptr, bytes, state, (CUstream)stream); }
static void stall(uintptr_t stream) { FIND(euryaleStandinStall); found((CUstream)stream); }
*/
import "C"

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// Present reports whether the driver of this process is the stand-in.
func Present() bool { return C.present() != 0 }

// Start resets the stand-in, or skips the test on another driver. At its end the test fails if there are findings.
func Start(t testing.TB) {
	t.Helper()
	if !Present() {
		t.Skip("this test is for the stand-in driver: make test-gpu")
	}
	Reset()
	t.Cleanup(func() {
		for _, f := range Report() {
			t.Errorf("stand-in driver: %s", f)
		}
		Reset()
	})
}

// Reset brings the driver back to how the process started.
func Reset() { C.reset() }

// Report is what was found since the last Reset.
func Report() []string {
	// Another thread's call may replace the text, and another goroutine's is on another thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	text := strings.TrimSuffix(C.GoString(C.findings()), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// ClearReport forgets what was found, for tests that provoke it.
func ClearReport() { C.clear_findings() }

// A Schedule says when work runs that nobody waits for.
type Schedule struct {
	Kind int
	Seed uint64
}

// The schedules: Lazy and Eager, and of Random and Biased one for every seed.
var (
	Lazy  = Schedule{Kind: C.EURYALE_LAZY}
	Eager = Schedule{Kind: C.EURYALE_EAGER}
)

func Random(seed uint64) Schedule { return Schedule{C.EURYALE_RANDOM, seed} }
func Biased(seed uint64) Schedule { return Schedule{C.EURYALE_BIASED, seed} }

func (s Schedule) String() string {
	return fmt.Sprintf("%s:%d", [...]string{"lazy", "eager", "random", "biased"}[s.Kind], s.Seed)
}

func SetSchedule(s Schedule) { C.set_schedule(C.int(s.Kind), C.uint64_t(s.Seed)) }

// A Fault makes the N-th call from now (1 is the next) of the function Name, or of any if Name is empty, return Code.
// Name "execute" means the execution of work instead.
type Fault struct {
	Name       string
	N          uint64
	Code       int
	Persistent bool
}

// SetFault replaces the fault; Fault{} removes it.
func SetFault(f Fault) {
	name := C.CString(f.Name)
	defer C.free(unsafe.Pointer(name))
	var persistent C.int
	if f.Persistent {
		persistent = 1
	}
	C.set_fault(name, C.uint64_t(f.N), C.int(f.Code), persistent)
}

// A Mutant makes the program under test wrong: its N-th call from now of the function Name, and with Every all later
// ones, succeeds without doing anything or, with Swap, acts on another stream than it names.
type Mutant struct {
	Name  string
	N     uint64
	Swap  bool
	Every bool
}

// SetMutant replaces the mutant; Mutant{} removes it.
func SetMutant(m Mutant) {
	name := C.CString(m.Name)
	defer C.free(unsafe.Pointer(name))
	kind := C.int(C.EURYALE_DROP)
	if m.Swap {
		kind = C.EURYALE_SWAP
	}
	var every C.int
	if m.Every {
		every = 1
	}
	C.set_mutant(name, C.uint64_t(m.N), kind, every)
}

// Calls is how often the function name, or any if it is empty, was called since the last Reset.
func Calls(name string) uint64 {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return uint64(C.calls(c))
}

// SetMemory sets the device's size, how much other processes have taken, and, if not 0, the largest free block.
func SetMemory(capacity, taken, largest uint64) {
	C.set_memory(C.size_t(capacity), C.size_t(taken), C.size_t(largest))
}

// SetMemoryInfo is what the driver says of its memory from now on, whatever is so; 0, 0 ends that.
func SetMemoryInfo(free, total uint64) { C.set_memory_info(C.size_t(free), C.size_t(total)) }

// Memory is the device memory allocated now and at most since the last Reset, and the page-locked memory now.
func Memory() (live, peak, host uint64) {
	var l, p, h C.size_t
	C.memory(&l, &p, &h)
	return uint64(l), uint64(p), uint64(h)
}

// Live is the number of objects of the driver that are alive.
func Live() int { return int(C.live()) }

// The lives of a part of an allocation, for Annotate.
const (
	Free  = C.EURYALE_FREE
	Fresh = C.EURYALE_FRESH
)

// Now is the stream of an Annotate that happens at once.
const Now = ^uintptr(0)

// Annotate gives a part of an allocation a new life, in the order of the stream.
func Annotate(ptr uintptr, bytes int, life int, stream uintptr) {
	C.annotate(C.CUdeviceptr(ptr), C.size_t(bytes), C.int(life), C.uintptr_t(stream))
}

// Stall makes the work of a stream wait forever.
func Stall(stream uintptr) { C.stall(C.uintptr_t(stream)) }
