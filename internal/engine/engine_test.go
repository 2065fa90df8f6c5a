package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/offload"
)

// untimed is a device that cannot say how long work took.
type untimed struct {
	device.Device
	broken bool
}

func (u *untimed) Elapsed(from, to device.Event) (time.Duration, error) {
	if u.broken {
		return 0, errors.New("no clock")
	}
	return u.Device.Elapsed(from, to)
}

// loop is an inventory of one phase of calls that read a weight each.
func loop(calls, passes int) *offload.Inventory {
	inv := &offload.Inventory{Phases: []offload.Phase{{Component: "unet", Passes: passes, Activations: 512}}}
	for c := range calls {
		inv.Weights = append(inv.Weights, offload.Weight{Name: fmt.Sprintf("unet.w%d", c), Bytes: 40000 + 256*c})
		inv.Phases[0].Calls = append(inv.Phases[0].Calls, offload.Call{Layer: fmt.Sprintf("unet.layer%d", c), Weights: []int{c}, Top: 256})
	}
	return inv
}

// What an image left whose end failed is not taken for a part of the next, which may be shorter.
func TestEngineAfterAnEndThatFailed(t *testing.T) {
	inv := loop(10, 4)
	plan, err := offload.Sequential().Plan(inv)
	if err != nil {
		t.Fatal(err)
	}
	dev := &untimed{Device: device.NewHost(0, hostmem.New(hostmem.NewBudget(0)))}
	defer dev.Close()
	e, err := engine.New(plan, inv, func(w int) []byte { return make([]byte, inv.Weights[w].Bytes) }, dev)
	if err != nil {
		t.Fatal(err)
	}
	e.Record()
	for image, calls := range []int{20, 0, 3} {
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		for range calls {
			if err := errors.Join(e.Before(), e.After()); err != nil {
				t.Fatal(err)
			}
		}
		dev.broken = image == 0
		if _, err := e.Stop(); (err != nil) != dev.broken {
			t.Errorf("image %d: %v", image, err)
		}
		dev.broken = false
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// waits is a device that counts the waits of the compute stream.
type waits struct {
	device.Device
	n int
}

func (w *waits) Wait(s device.Stream, e device.Event) error {
	if s == device.Compute {
		w.n++
	}
	return w.Device.Wait(s, e)
}

// What is on its way for passes that are left out is waited for: it must not arrive in memory that is used again.
func TestSkippedCopiesAreWaitedFor(t *testing.T) {
	inv := loop(10, 4)
	inv.Phases = append(inv.Phases, offload.Phase{Component: "vae", Passes: 1, Activations: 4096, Calls: []offload.Call{{Layer: "vae.layer", Top: 4096}}})
	plan, err := offload.Sequential(offload.Prefetch(1 << 20)).Plan(inv)
	if err != nil {
		t.Fatal(err)
	}
	dev := &waits{Device: device.NewHost(0, hostmem.New(hostmem.NewBudget(0)))}
	defer dev.Close()
	e, err := engine.New(plan, inv, func(w int) []byte { return make([]byte, inv.Weights[w].Bytes) }, dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	for range 10 { // a pass, in which copies run ahead
		if err := errors.Join(e.Before(), e.After()); err != nil {
			t.Fatal(err)
		}
	}
	before := dev.n
	if err := e.BeginPass(1, 0); err != nil {
		t.Fatal(err)
	}
	if dev.n != before+1 {
		t.Errorf("%d waits, want 1", dev.n-before)
	}
	if err := errors.Join(e.Before(), e.After()); err != nil {
		t.Error(err)
	}
	if err := e.BeginPass(0, 0); err == nil {
		t.Error("a phase is begun again")
	}
	if st, err := e.Stop(); err != nil || st.Uploaded == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// What stays for ever is copied once, also where a run ended before all of its passes.
func TestKeptWeightsOutliveARunThatEndedEarly(t *testing.T) {
	inv := loop(10, 4)
	plan, err := offload.None().Plan(inv)
	if err != nil {
		t.Fatal(err)
	}
	dev := device.NewHost(0, hostmem.New(hostmem.NewBudget(0)))
	defer dev.Close()
	e, err := engine.New(plan, inv, func(w int) []byte { return make([]byte, inv.Weights[w].Bytes) }, dev)
	if err != nil {
		t.Fatal(err)
	}
	for run, copied := range []bool{true, false} {
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		for range 10 { // one pass of four
			if err := errors.Join(e.Before(), e.After()); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := e.Stop(); err != nil || st.Uploaded > 0 != copied {
			t.Errorf("run %d: %d bytes are copied, %v", run, st.Uploaded, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
