package offload_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/internal/device"
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

// What an image left whose end failed is not taken for a part of the next, which may be shorter.
func TestEngineAfterAnEndThatFailed(t *testing.T) {
	inv := made(rand.New(rand.NewPCG(1, 0)))
	plan, err := offload.Sequential().Plan(inv)
	if err != nil {
		t.Fatal(err)
	}
	dev := &untimed{Device: device.NewHost(0, hostmem.New(hostmem.NewBudget(0)))}
	defer dev.Close()
	e, err := offload.NewEngine(plan, inv, func(w int) []byte { return make([]byte, inv.Weights[w].Bytes) }, dev)
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
