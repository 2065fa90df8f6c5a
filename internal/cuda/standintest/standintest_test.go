//go:build gpu

package standintest

import (
	"runtime"
	"strings"
	"testing"

	"gorgonia.org/cu"
)

// device makes the primary context current on this test's thread.
func device(t *testing.T) {
	t.Helper()
	Start(t)
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	ctx, err := cu.Device(0).RetainPrimaryCtx()
	if err != nil {
		t.Fatal(err)
	}
	if err := cu.SetCurrentContext(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestNamesItself(t *testing.T) {
	device(t)
	name, err := cu.Device(0).Name()
	if err != nil || !strings.Contains(name, "TEST STAND-IN") {
		t.Errorf("the device's name is %q, %v", name, err)
	}
}

// With the fault in each of a run's calls, exactly that call fails.
func TestFaultEverywhere(t *testing.T) {
	device(t)
	run := func() (failed int) {
		p, err := cu.MemAlloc(1000)
		if err != nil {
			return 1
		}
		if err := cu.MemsetD8(p, 1, 1000); err != nil {
			failed++
		}
		if err := cu.Synchronize(); err != nil {
			failed++
		}
		if err := cu.MemFree(p); err != nil {
			failed++
		}
		return failed
	}
	before := Calls("")
	if n := run(); n != 0 {
		t.Fatalf("%d calls fail without a fault", n)
	}
	calls := Calls("") - before
	if calls != 4 || Calls("cuMemAlloc") != 1 {
		t.Fatalf("%d calls, %d of cuMemAlloc; want 4, 1", calls, Calls("cuMemAlloc"))
	}
	for n := range calls {
		SetFault(Fault{N: n + 1, Code: 2})
		if failed := run(); failed != 1 {
			t.Errorf("fault in call %d: %d calls fail, want 1", n+1, failed)
		}
		if live := Live(); live != 0 {
			t.Errorf("fault in call %d: %d objects are alive", n+1, live)
		}
	}
	SetFault(Fault{Name: "execute", N: 1, Code: 700})
	if err := cu.MemsetD8(0, 1, 0); err != nil {
		t.Error(err)
	}
	if n := run(); n != 2 {
		t.Errorf("an error in the device's work: %d calls fail, want 2, that which waits and the free after it", n)
	}
}

func TestReport(t *testing.T) {
	device(t)
	p, err := cu.MemAlloc(1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := cu.MemFree(p); err != nil {
		t.Fatal(err)
	}
	if err := cu.MemFree(p); err == nil {
		t.Error("memory is freed twice")
	}
	if r := Report(); len(r) != 1 || !strings.Contains(r[0], "free already") {
		t.Errorf("report is %q", r)
	}
	ClearReport()
}

func TestCapacity(t *testing.T) {
	device(t)
	SetMemory(1<<20, 1<<19, 0)
	if _, err := cu.MemAlloc(1<<19 + 1); err == nil {
		t.Error("more was allocated than is free")
	}
	p, err := cu.MemAlloc(1 << 19)
	if err != nil {
		t.Fatal(err)
	}
	SetMemoryInfo(5, 7)
	if free, total, _ := cu.MemInfo(); free != 5 || total != 7 {
		t.Errorf("%d of %d free, want the lie", free, total)
	}
	if live, peak, _ := Memory(); live != 1<<19 || peak != 1<<19 {
		t.Errorf("%d bytes live, %d at most", live, peak)
	}
	if err := cu.MemFree(p); err != nil {
		t.Error(err)
	}
}

// A dropped wait is found, whatever order the schedule happens to run the work in.
func TestMutant(t *testing.T) {
	device(t)
	p, err := cu.MemAlloc(1000)
	if err != nil {
		t.Fatal(err)
	}
	var streams [2]cu.Stream
	for i := range streams {
		if streams[i], err = cu.MakeStream(1); err != nil { // non-blocking
			t.Fatal(err)
		}
	}
	e, err := cu.MakeEvent(2) // without timing
	if err != nil {
		t.Fatal(err)
	}
	fills := func() {
		for _, err := range []error{
			cu.MemsetD8Async(p, 1, 1000, streams[0]), e.Record(streams[0]),
			streams[1].Wait(e, 0), cu.MemsetD8Async(p, 2, 1000, streams[1]),
			streams[1].Synchronize(),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	fills()
	if r := Report(); r != nil {
		t.Errorf("the right program: %q", r)
	}
	SetMutant(Mutant{Name: "cuStreamWaitEvent", N: 1})
	fills()
	if err := cu.Synchronize(); err != nil { // two pieces of work are compared when both have run
		t.Error(err)
	}
	if r := Report(); len(r) != 1 || !strings.Contains(r[0], "without being ordered after") {
		t.Errorf("without the wait: %q", r)
	}
	ClearReport()
}
