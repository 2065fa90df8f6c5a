package graphs

import (
	"context"
	"errors"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/program"
)

// session is a plan for graphs that run one after the other on a device, and all that runs them.
type session struct {
	*listing
	host    *host
	opt     *options
	device  device.Device
	engine  *engine.Engine
	runners []*program.Runner // of the stages
	index   map[stored]int    // of the plan's weights
}

// newSession loads the masters, takes the device memory and binds every graph to it.
func (h *host) newSession(ctx context.Context, l *listing, opt *options) (s *session, err error) {
	s = &session{listing: l, host: h, opt: opt, device: h.device, index: map[stored]int{}}
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
		local := device.NewHost(l.plan.Peak, h.memory)
		local.BeforeCopy = func() {
			if opt.seam.Copy != nil {
				opt.seam.Copy()
			}
		}
		s.device, hostPeak = local, l.plan.Peak
	} else if err := device.HasRoom(s.device, l.plan.Peak); err != nil {
		return s, err
	}
	for _, prog := range l.programs {
		if err := h.checkMemory(prog, hostPeak); err != nil {
			return s, err
		}
		if err := h.weights.Load(ctx, prog); err != nil {
			return s, err
		}
	}
	master := func(w int) []byte { return h.weights.Master(l.weights[w].name, l.weights[w].layout) }
	if s.engine, err = engine.New(l.plan, l.inv, master, s.device); err != nil {
		return s, err
	}
	if opt.trace {
		s.engine.Record()
	}
	for i, k := range l.weights {
		s.index[k] = i
	}
	for i, prog := range l.programs {
		runner, err := program.NewDeviceRunner(prog, h.pool, h.weights, program.Device{
			Dev: s.device, Memory: s.engine.Activations(i),
			Weight: func(name string, l program.Layout) device.Ptr { return s.engine.Weight(i, s.index[stored{name, l}]) },
			Before: func(int, program.Call) error { return s.engine.Before() },
			After:  func(int, program.Call) error { return s.engine.After() },
			Idle:   s.engine.Idle, Passed: s.engine.Passed,
		})
		if err != nil {
			return s, err
		}
		s.runners = append(s.runners, runner)
	}
	return s, nil
}

// begin starts a run's copies.
func (s *session) begin() error {
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

// runner is that of a pass of a stage.
func (s *session) runner(stage, pass int) (*program.Runner, error) {
	if err := s.engine.BeginPass(stage, pass); err != nil {
		return nil, err
	}
	return s.runners[stage], nil
}
