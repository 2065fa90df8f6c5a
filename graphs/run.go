package graphs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Run runs stages: every pass of each, in order.
func (rt *Runtime) Run(ctx context.Context, stages []Stage) (stats *OffloadStats, err error) {
	defer stack.Add(&err)
	run, err := rt.Begin(ctx, stages)
	if err != nil {
		return nil, err
	}
	defer func() {
		s, e := run.End()
		if err = errors.Join(err, e); err == nil {
			stats = s
		}
	}()
	call := func(f func(int) error, pass int) error {
		if f == nil {
			return nil
		}
		return f(pass)
	}
	for i := range run.stages {
		s := &run.stages[i]
		for pass := range s.Passes {
			if err := call(s.Bind, pass); err != nil {
				return nil, err
			}
			if err := run.Pass(ctx, s.VM); err != nil {
				return nil, err
			}
			if err := call(s.Read, pass); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// Run is a list of stages between Begin and End. It is used by one goroutine.
type Run struct {
	rt      *Runtime
	session *session // nil where nothing is planned
	progress
	values  map[*VM][]G.Value // of output nodes, which the passes of the run write over
	hooks   []*Hook
	watches map[int]*watch // of stages
	begun   time.Time
	failed  error // why no more passes can be run
	ended   bool
}

// Begin plans stages, or takes the plan of an earlier list like it, loads weights and starts the first copies. Bind and
// Read of the stages are not called. Everything else that runs, plans or sets something of this runtime waits until
// End, which must be called: so nothing of that may be called in between, nor in a stage's Bind and Read.
func (rt *Runtime) Begin(ctx context.Context, stages []Stage) (run *Run, err error) {
	defer stack.Add(&err)
	if err := rt.host.acquire(ctx); err != nil {
		return nil, err
	}
	run = &Run{rt: rt, values: map[*VM][]G.Value{}, hooks: rt.hooks(), watches: map[int]*watch{}, begun: time.Now()}
	err = rt.host.locked(ctx, func(ctx context.Context) (err error) {
		if run.stages, err = rt.check(stages); err != nil {
			return err
		}
		if rt.host.planned.Any() {
			return errPlanning
		}
		if !rt.Planned() {
			return nil
		}
		if run.session, err = rt.prepare(ctx, run.stages); err != nil {
			return err
		}
		return run.session.begin()
	})
	if err != nil {
		err = errors.Join(err, rt.afterFailure(err))
		rt.host.yield()
		return nil, err
	}
	rt.host.running.Store(true)
	return run, nil
}

// Pass runs the next pass of a graph's stage; afterwards the graph's output nodes hold their values, which its next pass
// in this run writes over. Passes and stages that the list has before it are left out: of neighbouring stages of one
// graph the first is run to its end before the second begins.
func (r *Run) Pass(ctx context.Context, vm *VM) (err error) {
	defer stack.Add(&err)
	switch {
	case r.ended:
		return errors.New("a pass is run after End")
	case r.failed != nil:
		return fmt.Errorf("a pass is run after one that failed: %w", r.failed)
	case vm == nil || vm.host != r.rt.host:
		return &StageError{Want: r.title(), Pass: r.pass}
	}
	err = r.rt.host.locked(ctx, func(ctx context.Context) error {
		if vm.closed.Load() {
			return ErrClosed
		}
		if err := r.next(vm); err != nil {
			return err
		}
		return r.run(ctx, &r.stages[r.at], r.pass-1)
	})
	if err != nil && !errors.As(err, new(*StageError)) {
		r.failed = err
	}
	return err
}

// run runs a pass of a stage.
func (r *Run) run(ctx context.Context, s *Stage, pass int) error {
	runner, err := r.runner(ctx, s, pass)
	if err != nil {
		return err
	}
	how := program.Pass{
		Again: pass > 0, Carry: pass > 0 && !s.Fetch, Keep: pass+1 < s.Passes && !s.Fetch,
		Watch: r.watchers(ctx, runner, pass),
	}
	if err := runner.Run(ctx, how); err != nil {
		return err
	}
	if err := r.letOutputs(s, runner); err != nil {
		return err
	}
	if r.rt.opt.outputChecks && !r.rt.opt.checks {
		if err := s.checkOutputs(ctx, runner); err != nil {
			return err
		}
	}
	return r.carry(s, runner)
}

// watchers are told of the calls of a pass; nil if there are none.
func (r *Run) watchers(ctx context.Context, runner *program.Runner, pass int) program.Watcher {
	var all program.Watchers
	if op := r.rt.opt.seam.Op; op != nil {
		all = append(all, traced{runner: runner, op: op})
	}
	if len(r.hooks) > 0 {
		w, made := r.watches[r.at]
		if !made {
			w = r.watch(&r.stages[r.at])
			r.watches[r.at] = w
		}
		if w != nil {
			w.ctx, w.runner, w.pass = ctx, runner, pass
			all = append(all, w)
		}
	}
	if r.rt.opt.checks {
		all = append(all, checks{runner: runner})
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// runner is that of a pass of a stage.
func (r *Run) runner(ctx context.Context, s *Stage, pass int) (*program.Runner, error) {
	if r.session == nil {
		return s.VM.onHost(ctx)
	}
	return r.session.runner(r.at, pass)
}

// letOutputs has the output nodes hold their values, but for what is carried, and what stays on the device.
func (r *Run) letOutputs(s *Stage, runner *program.Runner) error {
	vm := s.VM
	values := r.values[vm]
	if values == nil {
		values = make([]G.Value, len(vm.outputs))
		r.values[vm] = values
	}
	for i, n := range vm.outputs {
		a := runner.Output(i)
		if s.carried(n) != nil || a.Data == nil {
			continue
		}
		if slices.Contains(s.Keep, n) && values[i] == nil {
			values[i] = vm.kept[i]
		}
		if values[i] == nil || !overwrite(values[i], a) {
			a.Data = slices.Clone(a.Data)
			values[i] = program.ValueOf(a)
		}
		if slices.Contains(s.Keep, n) {
			if vm.kept == nil {
				vm.kept = map[int]G.Value{}
			}
			vm.kept[i] = values[i]
		}
		if n.Value() == values[i] {
			continue
		}
		if err := G.UnsafeLet(n, values[i]); err != nil {
			return fmt.Errorf("output %q: %w", n.Name(), err)
		}
	}
	for _, rd := range vm.reads {
		*rd.into = vm.outputs[rd.output].Value()
	}
	return nil
}

// overwrite copies a result into an earlier one's memory, unless that is a scalar.
func overwrite(v G.Value, a program.Arg) bool {
	t, ok := v.(*tensor.Dense)
	if !ok {
		return false
	}
	switch t.Dtype() { // Data would allocate
	case tensor.Float32:
		copy(t.Float32s(), a.F32())
	case tensor.Int32:
		copy(t.Int32s(), a.I32())
	default:
		return false
	}
	return true
}

// carry writes carried outputs where the inputs have their values.
func (r *Run) carry(s *Stage, runner *program.Runner) error {
	for _, c := range s.Carry {
		a := runner.Output(slices.Index(s.VM.outputs, c.Out))
		if a.Data == nil { // it stays on the device
			continue
		}
		v := c.In.Value()
		if v == nil || !v.Shape().Eq(a.Shape) || !overwrite(v, a) {
			return fmt.Errorf("%q cannot be carried to %q, whose value is %v", c.Out.Name(), c.In.Name(), v)
		}
		if c.Out.Value() != v {
			if err := G.UnsafeLet(c.Out, v); err != nil {
				return fmt.Errorf("output %q: %w", c.Out.Name(), err)
			}
		}
	}
	return nil
}

// End ends the run, complete or not, and waits for what was issued. The statistics are nil if nothing was planned.
func (r *Run) End() (stats *OffloadStats, err error) {
	defer stack.Add(&err)
	if r.ended {
		return nil, errors.New("the run has ended")
	}
	r.ended = true
	defer r.rt.host.yield()
	defer r.rt.host.running.Store(false)
	err = r.rt.host.guarded(func() (err error) {
		stats, err = r.rt.host.finish()
		return err
	})
	if r.failed != nil {
		err = errors.Join(err, r.rt.afterFailure(r.failed))
	}
	return stats, err
}

// progress is how far a list of stages has been run.
type progress struct {
	stages   []Stage
	at, pass int // the stage that runs, and the passes of it begun
}

// title names the stage that runs.
func (p *progress) title() string {
	if p.at == len(p.stages) {
		return ""
	}
	return p.stages[p.at].title()
}

// next moves on to the next pass of a graph.
func (p *progress) next(vm *VM) error {
	at, pass := p.at, p.pass
	if at < len(p.stages) && pass == p.stages[at].Passes {
		at, pass = at+1, 0
	}
	want, from := at, pass
	for at < len(p.stages) && (p.stages[at].VM != vm || pass == p.stages[at].Passes) {
		at, pass = at+1, 0
	}
	if at == len(p.stages) {
		e := &StageError{Pass: from}
		if want < len(p.stages) {
			e.Want = p.stages[want].title()
		}
		if i := slices.IndexFunc(p.stages, func(s Stage) bool { return s.VM == vm }); i >= 0 {
			e.Got = p.stages[i].title()
		}
		return e
	}
	p.at, p.pass = at, pass+1
	return nil
}

// OffloadStats is what offloading took for an image.
type OffloadStats struct {
	Strategy string
	Peak     int           // bytes of device memory
	Uploaded int64         // bytes
	CopyTime time.Duration // the copy engine was busy
	Stalled  time.Duration // calls waited for it

	Plan      *offload.Plan
	Inventory *offload.Inventory
	Events    []offload.Event // with WithTrace
}

// Hidden is the share of the copies' time behind which something was computed.
func (s *OffloadStats) Hidden() float64 {
	if s.CopyTime == 0 {
		return 1
	}
	return max(0, 1-s.Stalled.Seconds()/s.CopyTime.Seconds())
}
