//go:build gpu

package pipeline_test

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/cuda/standintest"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/offload"
)

// cases are those of the n cases of a loop that are tried: a sample, or with EURYALE_EVERY=1 all. EURYALE_SHARD=i/k
// leaves of these the i-th of k parts, for as many processes (make test-gpu-every). A long loop tells how far it is.
func cases(t *testing.T, n, sample int) iter.Seq[int] {
	step := max(1, n/sample) | 1 // odd: every other driver call is that of the context
	if os.Getenv("EURYALE_EVERY") != "" {
		step = 1
	}
	part, parts := 1, 1
	if s := os.Getenv("EURYALE_SHARD"); s != "" {
		if _, err := fmt.Sscanf(s, "%d/%d", &part, &parts); err != nil || part < 1 || part > parts {
			t.Fatalf("EURYALE_SHARD=%s is not 1/2 or the like", s)
		}
	}
	return func(yield func(int) bool) {
		tried, told := 0, time.Now()
		for i := (part - 1) * step; i < n; i += parts * step {
			if time.Since(told) > 20*time.Second {
				fmt.Fprintf(os.Stderr, "%s: %d tried, at %d of %d\n", t.Name(), tried, i, n)
				told = time.Now()
			}
			if tried++; !yield(i) {
				return
			}
		}
		t.Logf("%d of %d", tried, n)
	}
}

// Each driver call of a picture fails in turn, once or from then on, from opening the device to closing it: there is an
// error, nothing leaks, and the next picture is the same.
func TestEveryDriverCallFails(t *testing.T) {
	for _, c := range []struct {
		name     string
		steps    int
		strategy offload.Strategy
	}{
		{"weights are streamed", 1, prefetched},
		{"steps are graphs", 3, offload.None()},
	} {
		t.Run(c.name, func(t *testing.T) {
			standintest.Start(t)
			draw := func() (string, error) { return stepsOnStandin(t, c.steps, c.strategy) }
			standintest.SetSchedule(standintest.Eager)
			want, err := draw()
			if err != nil {
				t.Fatal(err)
			}
			calls := int(standintest.Calls(""))
			for i := range cases(t, 2*calls, 100) {
				standintest.Reset() // what could not be given back is not missed by later cases
				standintest.SetSchedule(standintest.Eager)
				f := standintest.Fault{N: uint64(i%calls + 1), Code: 1, Persistent: i >= calls}
				when := fmt.Sprintf("call %d of %d, persistent %t", f.N, calls, f.Persistent)
				standintest.SetFault(f)
				if _, err := draw(); err == nil {
					t.Errorf("%s: no error", when)
				}
				standintest.SetFault(standintest.Fault{})
				standintest.NoLeaks(t, when)
				if got, err := draw(); err != nil || got != want {
					t.Errorf("%s: the next picture is %s, %v; want %s", when, got, err, want)
				}
				for _, f := range standintest.Report() {
					t.Errorf("%s: %s", when, f)
				}
			}
		})
	}
}

// Each driver call of a pipeline's picture fails in turn for want of memory: there is an error, and the same pipeline's
// next picture is the same.
func TestPipelineOutlivesEveryFault(t *testing.T) {
	for name, strategy := range map[string]offload.Strategy{"weights are streamed": prefetched, "steps are graphs": offload.None()} {
		t.Run(name, func(t *testing.T) {
			standintest.Start(t)
			standintest.SetSchedule(standintest.Eager)
			p := openGolden(t, "sd1", graphs.WithDevice(cuda0), graphs.WithOffload(strategy))
			draw := func() (string, error) { return drawn(t, p, 3) }
			want, err := draw()
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			for range 3 { // what comes again is captured
				before := standintest.Calls("")
				if _, err := draw(); err != nil {
					t.Fatal(err)
				}
				calls = int(standintest.Calls("") - before)
			}
			for n := range cases(t, calls, 50) {
				when := fmt.Sprintf("call %d of %d", n+1, calls)
				standintest.SetFault(standintest.Fault{N: uint64(n + 1), Code: 2})
				if _, err := draw(); err == nil {
					t.Errorf("%s: no error", when)
				}
				standintest.SetFault(standintest.Fault{})
				if got, err := draw(); err != nil || got != want {
					t.Fatalf("%s: the next picture is %s, %v; want %s", when, got, err, want)
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			standintest.NoLeaks(t, "after Close")
		})
	}
}

// Whichever call finds that the device is lost, the error says so with the driver's code, and at once.
func TestDeviceLostAtEveryCall(t *testing.T) {
	standintest.Start(t)
	standintest.SetSchedule(standintest.Eager)
	if _, err := onStandin(t, prefetched); err != nil {
		t.Fatal(err)
	}
	calls, codes := int(standintest.Calls("")), []int{700, 719, 999, 100}
	for i := range cases(t, calls*len(codes), 100) {
		standintest.Reset()
		standintest.SetSchedule(standintest.Eager)
		code, n := codes[i%len(codes)], i/len(codes)+1
		standintest.SetFault(standintest.Fault{N: uint64(n), Code: code})
		begin := bounded.CPU()
		_, err := onStandin(t, prefetched)
		var e *device.Error
		if !errors.Is(err, graphs.ErrDeviceLost) || !errors.As(err, &e) || e.Code != code {
			t.Errorf("call %d of %d: error %v, want code %d and a lost device", n, calls, err, code)
		}
		if d := bounded.CPU() - begin; d > bounded.Limit(10*time.Second) {
			t.Errorf("call %d of %d: it took %v", n, calls, d)
		}
	}
	standintest.Reset() // what a lost device cannot give back is no finding
}

// Wherever a picture's waits fail together, those of its end too, the next waits first: nothing is overwritten that
// work of the first still reads.
func TestPipelineOutlivesEveryWait(t *testing.T) {
	standintest.Start(t)
	standintest.SetSchedule(standintest.Lazy)
	var good, bad int // records that succeed, and that fail then
	failing := &mutations{record: func(m *mutant, e device.Event, s device.Stream) error {
		if good--; good < 0 && bad > 0 {
			bad--
			return errors.New("no record")
		}
		return m.Device.Record(e, s)
	}}
	p := openGolden(t, "sd1", graphs.WithDevice(cuda0), graphs.WithOffload(prefetched),
		wrapped(func(d device.Device) device.Device { return &mutant{Device: d, m: failing} }))
	draw := func() (string, error) { return drawn(t, p, 1) }
	want, err := draw()
	if err != nil {
		t.Fatal(err)
	}
	good = 0
	if _, err := draw(); err != nil {
		t.Fatal(err)
	}
	records := -good
	for n := range cases(t, records, 50) {
		good, bad = n, 6
		if _, err := draw(); err == nil {
			t.Errorf("from record %d of %d: no error", n+1, records)
		}
		bad = 0
		if got, err := draw(); err != nil || got != want {
			t.Fatalf("from record %d of %d: the next picture is %s, %v; want %s", n+1, records, got, err, want)
		}
		for _, f := range standintest.Report() {
			t.Errorf("from record %d of %d: %s", n+1, records, f)
		}
		standintest.ClearReport()
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
