//go:build gpu

package pipeline_test

import (
	"testing"

	"github.com/euryale-ml/euryale/internal/cuda/standintest"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/offload"
)

// mutant is a device on which one thing is done wrong.
type mutant struct {
	device.Device
	m     *mutations
	n     int            // calls of what is changed
	event device.Event   // of an earlier Record
	ptr   device.Ptr     // of an earlier Alloc
	held  *device.Kernel // a launch held back
}

// mutations are the calls that a mutant changes.
type mutations struct {
	name    string
	copyIn  func(m *mutant, s device.Stream, dst device.Ptr, src []byte) error
	copyOut func(m *mutant, s device.Stream, dst []byte, src device.Ptr) error
	launch  func(m *mutant, s device.Stream, k *device.Kernel) error
	record  func(m *mutant, e device.Event, s device.Stream) error
	wait    func(m *mutant, s device.Stream, e device.Event) error
	sync    func(m *mutant, e device.Event) error
	free    func(m *mutant, p device.Ptr) error
	lock    func(m *mutant, b []byte) error
	unlock  func(m *mutant, b []byte) error
	alloc   func(m *mutant, n int) (device.Ptr, error)

	capture     func(m *mutant, ks []*device.Kernel) (device.Graph, error)
	launchGraph func(m *mutant, s device.Stream, g device.Graph) error
	freeGraph   func(m *mutant, g device.Graph) error
}

// graphs reports whether the mutant is wrong about graphs.
func (m *mutations) graphs() bool {
	return m.capture != nil || m.launchGraph != nil || m.freeGraph != nil
}

func (m *mutant) CopyIn(s device.Stream, dst device.Ptr, src []byte) error {
	if m.m.copyIn != nil {
		return m.m.copyIn(m, s, dst, src)
	}
	return m.Device.CopyIn(s, dst, src)
}

func (m *mutant) CopyOut(s device.Stream, dst []byte, src device.Ptr) error {
	if m.m.copyOut != nil {
		return m.m.copyOut(m, s, dst, src)
	}
	return m.Device.CopyOut(s, dst, src)
}

func (m *mutant) Launch(s device.Stream, k *device.Kernel) error {
	if m.m.launch != nil {
		return m.m.launch(m, s, k)
	}
	return m.Device.Launch(s, k)
}

func (m *mutant) Record(e device.Event, s device.Stream) error {
	if m.m.record != nil {
		return m.m.record(m, e, s)
	}
	return m.Device.Record(e, s)
}

func (m *mutant) Wait(s device.Stream, e device.Event) error {
	if m.m.wait != nil {
		return m.m.wait(m, s, e)
	}
	return m.Device.Wait(s, e)
}

func (m *mutant) Sync(e device.Event) error {
	if m.m.sync != nil {
		return m.m.sync(m, e)
	}
	return m.Device.Sync(e)
}

func (m *mutant) Alloc(n int) (device.Ptr, error) {
	if m.m.alloc != nil {
		return m.m.alloc(m, n)
	}
	return m.Device.Alloc(n)
}

func (m *mutant) Free(p device.Ptr) error {
	if m.m.free != nil {
		return m.m.free(m, p)
	}
	return m.Device.Free(p)
}

func (m *mutant) Lock(b []byte) error {
	if m.m.lock != nil {
		return m.m.lock(m, b)
	}
	return m.Device.Lock(b)
}

func (m *mutant) Unlock(b []byte) error {
	if m.m.unlock != nil {
		return m.m.unlock(m, b)
	}
	return m.Device.Unlock(b)
}

func (m *mutant) Capture(ks []*device.Kernel) (device.Graph, error) {
	if m.m.capture != nil {
		return m.m.capture(m, ks)
	}
	return m.Device.Capture(ks)
}

func (m *mutant) LaunchGraph(s device.Stream, g device.Graph) error {
	if m.m.launchGraph != nil {
		return m.m.launchGraph(m, s, g)
	}
	return m.Device.LaunchGraph(s, g)
}

func (m *mutant) FreeGraph(g device.Graph) error {
	if m.m.freeGraph != nil {
		return m.m.freeGraph(m, g)
	}
	return m.Device.FreeGraph(g)
}

// nth reports whether this is call n of those counted; they are counted from 1.
func (m *mutant) nth(n int) bool { m.n++; return m.n == n }

var mutants = []mutations{
	{name: "calls do not wait for copies", wait: func(m *mutant, s device.Stream, e device.Event) error {
		if s == device.Compute {
			return nil
		}
		return m.Device.Wait(s, e)
	}},
	{name: "one call does not wait for a copy", wait: func(m *mutant, s device.Stream, e device.Event) error {
		if s == device.Compute && m.nth(40) {
			return nil
		}
		return m.Device.Wait(s, e)
	}},
	{name: "copies do not wait for calls", wait: func(m *mutant, s device.Stream, e device.Event) error {
		if s == device.Copy {
			return nil
		}
		return m.Device.Wait(s, e)
	}},
	{name: "one copy does not wait for calls", wait: func(m *mutant, s device.Stream, e device.Event) error {
		if s == device.Copy && m.nth(30) {
			return nil
		}
		return m.Device.Wait(s, e)
	}},
	{name: "waits are of the wrong stream", wait: func(m *mutant, s device.Stream, e device.Event) error {
		return m.Device.Wait(device.Compute+device.Copy-s, e)
	}},
	{name: "waits are for the wait before", wait: func(m *mutant, s device.Stream, e device.Event) error {
		e, m.event = m.event, e
		if e == nil {
			return nil
		}
		return m.Device.Wait(s, e)
	}},
	{name: "events are not recorded in the copy stream", record: func(m *mutant, e device.Event, s device.Stream) error {
		if s == device.Copy {
			return nil
		}
		return m.Device.Record(e, s)
	}},
	{name: "events are not recorded in the compute stream", record: func(m *mutant, e device.Event, s device.Stream) error {
		if s == device.Compute {
			return nil
		}
		return m.Device.Record(e, s)
	}},
	{name: "events are recorded in the other stream", record: func(m *mutant, e device.Event, s device.Stream) error {
		return m.Device.Record(e, device.Compute+device.Copy-s)
	}},
	{name: "nobody waits for the device", sync: func(*mutant, device.Event) error { return nil }},
	{name: "launches go to the copy stream", launch: func(m *mutant, _ device.Stream, k *device.Kernel) error {
		return m.Device.Launch(device.Copy, k)
	}},
	{name: "one launch goes to the copy stream", launch: func(m *mutant, s device.Stream, k *device.Kernel) error {
		if m.nth(25) {
			s = device.Copy
		}
		return m.Device.Launch(s, k)
	}},
	{name: "a launch is left out", launch: func(m *mutant, s device.Stream, k *device.Kernel) error {
		if m.nth(25) {
			return nil
		}
		return m.Device.Launch(s, k)
	}},
	{name: "two launches change places", launch: func(m *mutant, s device.Stream, k *device.Kernel) error {
		if m.nth(20) {
			m.held = k
			return nil
		}
		err := m.Device.Launch(s, k)
		if m.held != nil {
			err, m.held = m.Device.Launch(s, m.held), nil
		}
		return err
	}},
	{name: "a launch is half as large", launch: func(m *mutant, s device.Stream, k *device.Kernel) error {
		less := *k
		if k.Grid[0] > 1 && m.nth(3) {
			less.Grid[0] /= 2
		}
		return m.Device.Launch(s, &less)
	}},
	{name: "inputs go through the copy stream", copyIn: func(m *mutant, _ device.Stream, dst device.Ptr, src []byte) error {
		return m.Device.CopyIn(device.Copy, dst, src)
	}},
	{name: "outputs go through the copy stream", copyOut: func(m *mutant, _ device.Stream, dst []byte, src device.Ptr) error {
		return m.Device.CopyOut(device.Copy, dst, src)
	}},
	{name: "a copy is left out", copyIn: func(m *mutant, s device.Stream, dst device.Ptr, src []byte) error {
		if m.nth(10) {
			return nil
		}
		return m.Device.CopyIn(s, dst, src)
	}},
	{name: "a copy is short", copyIn: func(m *mutant, s device.Stream, dst device.Ptr, src []byte) error {
		if m.nth(10) {
			src = src[:len(src)/2]
		}
		return m.Device.CopyIn(s, dst, src)
	}},
	{name: "a copy goes too far", copyIn: func(m *mutant, s device.Stream, dst device.Ptr, src []byte) error {
		if m.nth(10) {
			dst += 256
		}
		return m.Device.CopyIn(s, dst, src)
	}},
	{name: "the source of copies is overwritten at once", copyIn: func(m *mutant, s device.Stream, dst device.Ptr, src []byte) error {
		err := m.Device.CopyIn(s, dst, src)
		if s == device.Compute {
			src[0] ^= 1
		}
		return err
	}},
	{name: "host memory is not locked", lock: func(*mutant, []byte) error { return nil }, unlock: func(*mutant, []byte) error { return nil }},
	{name: "host memory is unlocked at once", lock: func(m *mutant, b []byte) error {
		if err := m.Device.Lock(b); err != nil {
			return err
		}
		return m.Device.Unlock(b)
	}, unlock: func(*mutant, []byte) error { return nil }},
	{name: "host memory stays locked", unlock: func(*mutant, []byte) error { return nil }},
	{name: "the arena is too small", alloc: func(m *mutant, n int) (device.Ptr, error) { return m.Device.Alloc(n * 7 / 8) }},
	{name: "memory is not freed", free: func(*mutant, device.Ptr) error { return nil }},
	{name: "memory is freed twice", free: func(m *mutant, p device.Ptr) error {
		if err := m.Device.Free(p); err != nil {
			return err
		}
		return m.Device.Free(p)
	}},
	{name: "memory is freed while it is used", alloc: func(m *mutant, n int) (p device.Ptr, err error) {
		p, err = m.Device.Alloc(n)
		m.ptr = p
		return p, err
	}, launch: func(m *mutant, s device.Stream, k *device.Kernel) error {
		err := m.Device.Launch(s, k)
		if m.nth(40) {
			err = m.Device.Free(m.ptr)
		}
		return err
	}},
	{name: "a graph goes through the copy stream", launchGraph: func(m *mutant, s device.Stream, g device.Graph) error {
		if m.nth(2) {
			s = device.Copy
		}
		return m.Device.LaunchGraph(s, g)
	}},
	{name: "a graph is not launched", launchGraph: func(m *mutant, s device.Stream, g device.Graph) error {
		if m.nth(2) {
			return nil
		}
		return m.Device.LaunchGraph(s, g)
	}},
	{name: "a graph is launched twice", launchGraph: func(m *mutant, s device.Stream, g device.Graph) error {
		if m.nth(2) {
			if err := m.Device.LaunchGraph(s, g); err != nil {
				return err
			}
		}
		return m.Device.LaunchGraph(s, g)
	}},
	{name: "a graph has one kernel less", capture: func(m *mutant, ks []*device.Kernel) (device.Graph, error) {
		return m.Device.Capture(ks[:len(ks)-1])
	}},
	{name: "a graph's kernels are captured in another order", capture: func(m *mutant, ks []*device.Kernel) (device.Graph, error) {
		ks[0], ks[1] = ks[1], ks[0]
		return m.Device.Capture(ks)
	}},
	{name: "graphs are not freed", freeGraph: func(*mutant, device.Graph) error { return nil }},
}

// Each mistake in what the runtime asks of a driver is seen: by the stand-in, as an error, or in the picture's bits.
func TestMutants(t *testing.T) {
	standintest.Start(t)
	strategy := offload.Sequential(offload.Prefetch(1 << 14))
	want, err := onStandin(t, strategy)
	if err != nil {
		t.Fatal(err)
	}
	// Graphs are of steps that come again.
	drawn, err := stepsOnStandin(t, 3, offload.None())
	if err != nil {
		t.Fatal(err)
	}
	for i := range mutants {
		m := &mutants[i]
		t.Run(m.name, func(t *testing.T) {
			standintest.Reset()
			standintest.SetSchedule(standintest.Lazy)
			changed := wrapped(func(d device.Device) device.Device { return &mutant{Device: d, m: m} })
			got, want, err := "", want, error(nil)
			if m.graphs() {
				want = drawn
				got, err = stepsOnStandin(t, 3, offload.None(), changed)
			} else {
				got, err = onStandin(t, strategy, changed)
			}
			found := standintest.Report()
			switch {
			case len(found) > 0:
				t.Logf("found: %s", found[0])
			case err != nil:
				t.Logf("error: %v", err)
			case got != want:
				t.Logf("other bits: %s, want %s", got, want)
			default:
				t.Errorf("nobody saw it")
			}
			standintest.Reset()
		})
	}
}
