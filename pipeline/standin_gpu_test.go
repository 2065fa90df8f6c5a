//go:build gpu

package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/cuda/standintest"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// onStandin makes a picture with a pipeline of its own, from opening the device to closing it.
func onStandin(t testing.TB, s offload.Strategy, opts ...graphs.Option) (string, error) {
	return stepsOnStandin(t, 1, s, opts...)
}

func stepsOnStandin(t testing.TB, steps int, s offload.Strategy, opts ...graphs.Option) (string, error) {
	m, err := loader.Open(filepath.Join(golden.Dir(), "sd1"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m, append(opts, graphs.WithDevice(cuda0), graphs.WithOffload(s))...)
	if err != nil {
		return "", err
	}
	got, err := drawn(t, p, steps)
	if e := p.Close(); err == nil {
		err = e
	}
	return got, err
}

// drawn is the hash of a picture of so many steps, without guidance.
func drawn(t testing.TB, p *pipeline.TextToImage, steps int) (string, error) {
	req := onDevice()
	req.NumInferenceSteps, req.GuidanceScale = steps, 1
	res, err := p.Generate(t.Context(), req)
	if err != nil {
		return "", err
	}
	return hash(res), nil
}

var (
	cuda0      = graphs.DeviceOption{Name: "cuda:0"}
	prefetched = offload.Sequential(offload.Prefetch(1 << 14))
)

// After an error that ruins the device, every call says so, and Close returns.
func TestLostDevice(t *testing.T) {
	for _, code := range []int{700, 717, 719, 999} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			standintest.Start(t)
			p := openGolden(t, "sd1", graphs.WithDevice(cuda0))
			standintest.SetFault(standintest.Fault{Name: "cuLaunchKernel", N: 30, Code: code})
			for range 3 {
				_, err := p.Generate(t.Context(), onDevice())
				var e *device.Error
				if !errors.Is(err, graphs.ErrDeviceLost) || !errors.As(err, &e) || e.Code != code {
					t.Errorf("error %v, want code %d and a lost device", err, code)
				}
			}
			begin := bounded.CPU()
			p.Close()
			if d := bounded.CPU() - begin; d > bounded.Limit(time.Second) {
				t.Errorf("Close took %v", d)
			}
			standintest.ClearReport() // of what could not be given back
		})
	}
}

// Whatever order the device works in, the bits are the same and the stand-in finds nothing.
func TestSchedules(t *testing.T) {
	standintest.Start(t)
	want := map[int]string{} // of as many steps
	schedules := []standintest.Schedule{standintest.Lazy, standintest.Eager}
	for seed := range uint64(1000) {
		schedules = append(schedules, standintest.Random(seed), standintest.Biased(seed))
	}
	strategies := []offload.Strategy{offload.None(), offload.Model(), offload.Sequential(), offload.Sequential(offload.Prefetch(1 << 14)), offload.Group(3)}
	for i := range cases(t, len(schedules), 100) {
		s := schedules[i]
		standintest.SetSchedule(s)
		strategy, steps := strategies[i%len(strategies)], 1+i/len(strategies)%2*2 // of three, two may be graphs
		got, err := stepsOnStandin(t, steps, strategy)
		if err != nil {
			t.Fatalf("%v: %v", s, err)
		}
		if want[steps] == "" {
			want[steps] = got
		}
		if got != want[steps] {
			t.Errorf("%v, %s: hash %s, want %s", s, strategy.Name(), got, want[steps])
		}
		for _, f := range standintest.Report() {
			t.Errorf("%v, %s: %s", s, strategy.Name(), f)
		}
		standintest.ClearReport()
	}
}

// On a device of any size there is the same picture, or an error before anything is copied to it.
func TestDeviceOfAnySize(t *testing.T) {
	standintest.Start(t)
	want, err := onStandin(t, prefetched)
	if err != nil {
		t.Fatal(err)
	}
	_, most, _ := standintest.Memory()
	made, refused := 0, 0
	for i := range 16 {
		standintest.Reset()
		standintest.SetMemory(most*uint64(32-i)/24, 0, 0)
		got, err := onStandin(t, prefetched)
		switch {
		case err == nil && got == want:
			made++
		case errors.As(err, new(*graphs.DeviceMemoryError)) && standintest.Calls("cuMemcpyHtoDAsync") == 0:
			refused++
		default:
			t.Errorf("%d sixteenths: hash %s, %v", 32-i, got, err)
		}
		standintest.NoLeaks(t, "after it")
	}
	if made == 0 || refused == 0 {
		t.Errorf("%d pictures made, %d refused", made, refused)
	}
}

// Another process may have taken the memory that the driver says is free; one that says nothing is not planned for.
func TestMemoryInformationMayBeWrong(t *testing.T) {
	standintest.Start(t)
	standintest.SetMemory(1<<30, 1<<30-4096, 0)
	standintest.SetMemoryInfo(1<<30, 1<<30)
	if _, err := onStandin(t, prefetched); !errors.As(err, new(*graphs.DeviceMemoryError)) {
		t.Errorf("no memory, but said to be there: %v", err)
	}
	standintest.NoLeaks(t, "no memory")
	p := openGolden(t, "sd1", graphs.WithDevice(cuda0), wrapped(func(d device.Device) device.Device { return silent{d} }))
	if _, err := p.Generate(t.Context(), onDevice()); err == nil || !strings.Contains(err.Error(), "does not say") {
		t.Errorf("no memory information: %v", err)
	}
}

// silent is a device without memory information.
type silent struct{ device.Device }

func (silent) Memory() (free, total int, err error) { return 0, 0, nil }

// A run on a device can be cancelled at any call; the next picture is the same.
func TestCancelledOnDevice(t *testing.T) {
	standintest.Start(t)
	calls := 0
	var cancel context.CancelFunc
	at := -1
	p := openGolden(t, "sd1", graphs.WithDevice(cuda0), graphs.WithOffload(prefetched), graphs.WithHooks(graphs.Hook{Before: func(graphs.Call) error {
		if calls++; calls == at {
			cancel()
		}
		return nil
	}}))
	run := func() (*pipeline.Result, error) {
		var ctx context.Context
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		calls = 0
		return p.Generate(ctx, onDevice())
	}
	res, err := run()
	if err != nil {
		t.Fatal(err)
	}
	want, total := hash(res), calls
	for at = 1; at < total; at += max(1, total/12) {
		if _, err := run(); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before call %d of %d: %v", at, total, err)
		}
	}
	at = -1
	if res, err = run(); err != nil || hash(res) != want {
		t.Errorf("after it: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	standintest.NoLeaks(t, "after Close")
}
