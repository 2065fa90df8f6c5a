package graphs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/offload"
)

// session is a plan for graphs that run one after the other on a device, and all that runs them.
type session struct {
	key string
	progress
	inv    *offload.Inventory
	plan   *offload.Plan
	host   *host
	device device.Device
	engine *engine.Engine
	hooks  *options

	runners []*program.Runner
	tile    int // pixels of the VAE's tiles, 0 for none

	begun time.Time
}

// stored is a weight in the layout its kernel reads.
type stored struct {
	name   string
	layout program.Layout
}

// inventory turns compiled graphs into what strategies see, and lists the weights by index.
func (h *host) inventory(stages []Stage) (*offload.Inventory, []stored) {
	inv := &offload.Inventory{}
	index := map[stored]int{}
	var list []stored
	for _, st := range stages {
		prog := st.VM.prog
		out := offload.Phase{Component: st.Component, Name: st.Name, Passes: st.Passes, Activations: prog.DeviceBytes()}
		tops := prog.DeviceTops()
		for i, c := range prog.Calls {
			call := offload.Call{Layer: c.Layer, FLOPs: c.FLOPs, Bytes: int64(prog.Values[c.Out].Bytes), Top: tops[i]}
			for _, in := range c.In {
				v := prog.Values[in]
				if v.Kind != program.Weight {
					call.Bytes += int64(v.Bytes)
					continue
				}
				key := stored{v.Name, v.Layout}
				w, ok := index[key]
				if !ok {
					w = len(list)
					index[key], list = w, append(list, key)
					inv.Weights = append(inv.Weights, offload.Weight{Name: v.Name, Bytes: h.weights.WeightBytes(prog, v)})
				}
				call.Weights = append(call.Weights, w)
			}
			out.Calls = append(out.Calls, call)
		}
		inv.Phases = append(inv.Phases, out)
	}
	return inv, list
}

// newSession loads the masters, takes the device memory and binds every graph to it.
func (h *host) newSession(ctx context.Context, plan *offload.Plan, inv *offload.Inventory, list []stored, stages []Stage, hooks *options) (s *session, err error) {
	s = &session{progress: progress{stages: stages}, inv: inv, plan: plan, host: h, device: h.device, hooks: hooks}
	defer func() {
		if err != nil {
			if e := s.close(); e != nil {
				err = errors.Join(err, e)
			}
			s = nil
		}
	}()
	hostPeak := 0
	if s.device == nil {
		local := device.NewHost(plan.Peak, h.memory)
		local.BeforeCopy = hooks.onCopy
		s.device, hostPeak = local, plan.Peak
	} else if err := hasRoom(s.device, plan.Peak); err != nil {
		return s, err
	}
	for _, st := range stages {
		if err := st.VM.checkMemory(hostPeak); err != nil {
			return s, err
		}
		if err := h.weights.Load(ctx, st.VM.prog); err != nil {
			return s, err
		}
	}
	master := func(w int) []byte { return h.weights.Master(list[w].name, list[w].layout) }
	if s.engine, err = engine.New(plan, inv, master, s.device); err != nil {
		return s, err
	}
	if hooks.trace {
		s.engine.Record()
	}
	index := map[stored]int{}
	for i, k := range list {
		index[k] = i
	}
	for i, st := range stages {
		runner, err := program.NewDeviceRunner(st.VM.prog, h.pool, h.weights, program.Device{
			Dev: s.device, Memory: s.engine.Activations(i),
			Weight: func(name string, l program.Layout) device.Ptr { return s.engine.Weight(i, index[stored{name, l}]) },
			Before: func(k int, _ program.Call) error { return s.before(i, k) },
			After:  func(k int, _ program.Call) error { return s.after(i, k) },
			Idle:   s.idle, Passed: s.engine.Passed,
		})
		if err != nil {
			return s, err
		}
		s.runners = append(s.runners, runner)
	}
	return s, nil
}

// hasRoom refuses what a device has no memory for, before anything is loaded. Other processes may take it in the
// meantime: what counts is the allocation.
func hasRoom(dev device.Device, need int) error {
	free, total, err := dev.Memory()
	switch {
	case err != nil:
		return err
	case total == 0:
		return fmt.Errorf("%s does not say how much memory it has, and so cannot be planned for", dev.Name())
	case need > free:
		return &DeviceMemoryError{Need: need, Free: free}
	}
	return nil
}

// begin starts an image's copies; the host's runs are the session's until end.
func (s *session) begin() error {
	s.at, s.pass, s.begun = 0, 0, time.Now()
	s.host.session = s
	err := s.engine.Start()
	if err != nil {
		if _, e := s.end(); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// end waits for what is under way.
func (s *session) end() (engine.Stats, error) {
	s.host.session = nil
	st, err := s.engine.Stop()
	if h, ok := s.device.(*device.Host); ok {
		st.Peak = h.Peak()
		err = errors.Join(err, h.Close()) // its goroutine; the next copy starts another
	}
	return st, err
}

// close gives back what the session has. Closing nil does nothing.
func (s *session) close() (err error) {
	if s == nil {
		return nil
	}
	for _, r := range s.runners {
		err = errors.Join(err, r.Release())
	}
	s.runners = nil
	if s.engine != nil {
		err = errors.Join(err, s.engine.Close())
	}
	if s.device != nil && s.device != s.host.device {
		err = errors.Join(err, s.device.Close())
	}
	return err
}

// next is the runner of a graph's next pass, which the plan must have.
func (s *session) next(vm *VM) (*program.Runner, error) {
	if err := s.progress.next(vm); err != nil {
		return nil, err
	}
	if err := s.engine.BeginPass(s.at, s.pass-1); err != nil {
		return nil, err
	}
	r := s.runners[s.at]
	r.Again = s.pass > 1
	return r, nil
}

func (s *session) before(phase, call int) error {
	if err := s.engine.Before(); err != nil {
		return err
	}
	if s.hooks.before != nil {
		s.hooks.before(s.event(phase, call))
	}
	return nil
}

func (s *session) after(phase, call int) error {
	if s.hooks.after != nil {
		s.hooks.after(s.event(phase, call))
	}
	return s.engine.After()
}

// idle is how many calls may be issued together. Hooks want to see each.
func (s *session) idle(most int) int {
	if s.hooks.before != nil || s.hooks.after != nil {
		return 1
	}
	return s.engine.Idle(most)
}

func (s *session) event(phase, call int) HookEvent {
	c := s.inv.Phases[phase].Calls[call]
	e := HookEvent{Component: s.stages[phase].Component, Layer: c.Layer, Pass: s.pass - 1, Clock: time.Since(s.begun)}
	for _, w := range c.Weights {
		e.Weights += s.inv.Weights[w].Bytes
	}
	return e
}
