package graphs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// Note [Stages]
//
// What runs under one plan is a list of stages: compiled graphs, each with the number of its passes. The list is the
// run: it is planned, verified and executed from the same value. Between Begin and End a caller runs passes in the
// list's order, with any Go code in between. A loop may end before all of its passes are run, and stages may be left
// out; their copies are then left out too. A pass that the list does not have next is a *StageError.

// Runtime is where any number of graphs are compiled and run: they share weights, threads, memory, the device and one
// budget for it. It may be used from several goroutines; runs take turns.
type Runtime struct {
	host    *host
	opt     *options
	session *session // of the last list of stages that was offloaded
	listed  *listing // of the last list that was planned
}

// Stage is a compiled graph, and how often it runs before the next.
type Stage struct {
	VM     *VM
	Passes int // 0 is one
	// Component and Name are what plans, traces, hooks and errors call the stage; "graph" by default.
	Component, Name string
	// Bind and Read, if set, are called by Runtime.Run before and after each pass, to give the graph's leaves their
	// values and to see its outputs.
	Bind, Read func(pass int) error
}

// title names the stage.
func (s *Stage) title() string { return strings.TrimSpace(s.Component + " " + s.Name) }

// StageError is a pass that a list of stages does not have next.
type StageError struct {
	Want string // the stage that is next, empty at the end
	Got  string // the stage of the graph that was to run, empty if it is in no stage
	Pass int    // of Want, from 0
}

func (e *StageError) Error() string {
	got, want := "a graph of no stage", "no more"
	if e.Got != "" {
		got = "stage " + e.Got
	}
	if e.Want != "" {
		want = fmt.Sprintf("stage %s, pass %d", e.Want, e.Pass)
	}
	return fmt.Sprintf("a pass of %s is run; the list of stages has %s", got, want)
}

// Open makes a runtime. With none of the options it runs graphs on the processor, in ordinary memory.
func Open(opts ...Option) (*Runtime, error) {
	return open("a runtime", opts)
}

// open makes the runtime of a kind of user, who has an effect for all options that are given.
func open(kind string, opts []Option) (*Runtime, error) {
	o := &options{}
	for _, opt := range opts {
		if opt != nil {
			opt(o)
		}
	}
	for _, only := range o.only {
		if only.kind != kind {
			return nil, fmt.Errorf("%s has no effect on %s: it is an option of %s", only.option, kind, only.kind)
		}
	}
	if err := o.openModels(); err != nil {
		return nil, err
	}
	h, err := newHost(o)
	if err != nil {
		return nil, err
	}
	rt := &Runtime{host: h, opt: o}
	h.onClose = rt.endSession
	return rt, nil
}

// Close ends the threads and gives the memory back. A run, and every later one, returns ErrClosed. Close may be
// called from any goroutine, between Begin and End too, and more than once.
func (rt *Runtime) Close() error { return rt.host.close() }

// Compile compiles a graph for some of its nodes, all of one graph, which must not change afterwards. Leaves whose
// names a source of WithWeights has are weights; the others are bound with gorgonia.Let.
func (rt *Runtime) Compile(outputs ...*G.Node) (vm *VM, err error) {
	if len(outputs) == 0 || outputs[0] == nil {
		return nil, errors.New("there are no outputs to compile, or the first is nil")
	}
	return rt.compile(outputs[0].Graph(), outputs)
}

// compile compiles a graph, unless the runtime is closed.
func (rt *Runtime) compile(g *G.ExprGraph, outputs []*G.Node) (vm *VM, err error) {
	err = rt.host.guarded(func() (err error) {
		if rt.host.closed() {
			return ErrClosed
		}
		if vm, err = rt.host.compileGraph(g, outputs); err != nil {
			return err
		}
		vm.rt = rt
		return rt.opt.unread(vm.prog)
	})
	if err != nil {
		return nil, err
	}
	return vm, nil
}

// check gives stages their defaults and refuses those that are not the runtime's.
func (rt *Runtime) check(stages []Stage) ([]Stage, error) {
	if len(stages) == 0 {
		return nil, errors.New("there are no stages")
	}
	stages = slices.Clone(stages)
	calls := 0
	for i := range stages {
		s := &stages[i]
		if s.Component == "" {
			s.Component = "graph"
		}
		if s.Passes == 0 {
			s.Passes = 1
		}
		switch {
		case s.VM == nil:
			return nil, fmt.Errorf("stage %d, %s: the VM is nil", i, s.title())
		case s.VM.host != rt.host:
			return nil, fmt.Errorf("stage %d, %s: its graph was compiled into another runtime", i, s.title())
		case s.Passes < 0:
			return nil, fmt.Errorf("stage %d, %s: %d passes", i, s.title(), s.Passes)
		}
		if n := max(1, len(s.VM.prog.Calls)); s.Passes > (maxCalls-calls)/n {
			return nil, fmt.Errorf("stage %d, %s: %d passes make more than %d calls; a plan notes each", i, s.title(), s.Passes, maxCalls)
		} else {
			calls += s.Passes * n
		}
	}
	return stages, nil
}

// maxCalls bounds the calls of a run: plans and the engine keep some bytes for each. The most of a real model is a
// tenth.
const maxCalls = 4 << 20

// Plan makes the strategy's plan for stages. Nothing is loaded and nothing runs. The inventory is the runtime's own,
// and must not be changed.
func (rt *Runtime) Plan(ctx context.Context, stages []Stage) (plan *offload.Plan, inv *offload.Inventory, err error) {
	defer program.Recovered(&err)
	err = rt.host.do(ctx, func(context.Context) error {
		s, err := rt.strategy()
		if err != nil {
			return err
		}
		if stages, err = rt.check(stages); err != nil {
			return err
		}
		inv, _ = rt.inventory(stages)
		plan, err = planOf(s, inv)
		return err
	})
	return plan, inv, err
}

// planOf is the plan of a strategy, which may be the user's own, proven.
func planOf(s offload.Strategy, inv *offload.Inventory) (plan *offload.Plan, err error) {
	if s == nil {
		return nil, errors.New("offload: the strategy is nil")
	}
	name := "without a name"
	defer func() {
		if r := recover(); r != nil {
			plan, err = nil, fmt.Errorf("offload: strategy %s: panic: %v", name, r)
		}
	}()
	name = s.Name()
	plan, err = s.Plan(inv)
	switch {
	case err != nil:
		return nil, err
	case plan == nil:
		return nil, fmt.Errorf("offload: strategy %s made neither a plan nor an error", name)
	}
	return plan, offload.Verify(plan, inv)
}

// strategy is the one that was chosen; without one everything is resident.
func (rt *Runtime) strategy() (offload.Strategy, error) {
	switch list := rt.opt.strategies; {
	case slices.Contains(list, nil):
		return nil, errors.New("offload: the strategy is nil")
	case len(list) > 1:
		return nil, fmt.Errorf("offload: two strategies, %s and %s; a runtime takes one", list[0].Name(), list[1].Name())
	case len(list) == 1:
		if r, ok := list[0].(replay); ok && r.plan == nil {
			return nil, errors.New("offload: the plan is nil")
		}
		return list[0], nil
	}
	return offload.None(), nil
}

// offloaded reports whether runs are planned: on a device, with a strategy, or for hooks.
func (rt *Runtime) offloaded() bool {
	return len(rt.opt.strategies) > 0 || rt.host.device != nil || rt.opt.before != nil || rt.opt.after != nil
}

// Run runs stages: every pass of each, in order.
func (rt *Runtime) Run(ctx context.Context, stages []Stage) (stats *OffloadStats, err error) {
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
	rt     *Runtime
	stages []Stage
	at     progress
	failed error // why no more passes can be run
	ended  bool
}

// Begin plans stages, or takes the plan of the last list like it, loads weights and starts the first copies. Bind and
// Read of the stages are not called. Everything else that runs, plans or sets something of this runtime waits until
// End, which must be called: so nothing of that may be called in between, nor in a stage's Bind and Read.
func (rt *Runtime) Begin(ctx context.Context, stages []Stage) (run *Run, err error) {
	if err := rt.host.acquire(ctx); err != nil {
		return nil, err
	}
	run = &Run{rt: rt}
	err = rt.host.locked(ctx, func(ctx context.Context) (err error) {
		if run.stages, err = rt.check(stages); err != nil {
			return err
		}
		run.at = progress{stages: run.stages}
		if rt.host.planned.Any() {
			return errPlanning
		}
		if !rt.offloaded() {
			return nil
		}
		if err := rt.prepare(ctx, run.stages); err != nil {
			return err
		}
		return rt.session.begin()
	})
	if err != nil {
		err = errors.Join(err, rt.afterFailure(err))
		rt.host.yield()
		return nil, err
	}
	return run, nil
}

// afterFailure gives back what a run that failed cannot be trusted with: all memory where there was too little, and the
// session after a panic, which may have left it anywhere.
func (rt *Runtime) afterFailure(err error) error {
	return rt.host.guarded(func() error {
		switch {
		case rt.host.closed(): // Close has done it
			return nil
		case errors.As(err, new(*MemoryError)):
			return errors.Join(rt.endSession(), rt.host.release())
		case errors.As(err, new(*PanicError)):
			_, e := rt.host.finish()
			return errors.Join(e, rt.endSession())
		}
		return nil
	})
}

// prepare makes the session of stages.
func (rt *Runtime) prepare(ctx context.Context, stages []Stage) error {
	key := describe(stages)
	if rt.session != nil && rt.session.key == key {
		return nil
	}
	if err := rt.endSession(); err != nil {
		return err
	}
	s, err := rt.strategy()
	if err != nil {
		return err
	}
	inv, list := rt.inventory(stages)
	plan, err := planOf(s, inv)
	if err != nil {
		return err
	}
	return rt.newSession(ctx, key, plan, inv, list, stages)
}

func (rt *Runtime) newSession(ctx context.Context, key string, plan *offload.Plan, inv *offload.Inventory, list []stored, stages []Stage) error {
	s, err := rt.host.newSession(ctx, plan, inv, list, stages, rt.opt)
	if err != nil {
		return err
	}
	s.key = key
	rt.session = s
	return nil
}

// Pass runs the next pass of a graph's stage; afterwards the graph's output nodes hold their values. Passes and
// stages that the list has before it are left out: of neighbouring stages of one graph the first is run to its end
// before the second begins.
func (r *Run) Pass(ctx context.Context, vm *VM) error {
	switch {
	case r.ended:
		return errors.New("a pass is run after End")
	case r.failed != nil:
		return fmt.Errorf("a pass is run after one that failed: %w", r.failed)
	case vm == nil || vm.host != r.rt.host:
		return &StageError{Want: r.at.title(), Pass: r.at.pass}
	}
	err := r.rt.host.locked(ctx, func(ctx context.Context) error {
		if r.rt.host.session == nil { // with one, it keeps count
			if err := r.at.next(vm); err != nil {
				return err
			}
		}
		return vm.runAndLet(ctx)
	})
	if err != nil && !errors.As(err, new(*StageError)) {
		r.failed = err
	}
	return err
}

// End ends the run, complete or not, and waits for what was issued. The statistics are nil if nothing was planned.
func (r *Run) End() (stats *OffloadStats, err error) {
	if r.ended {
		return nil, errors.New("the run has ended")
	}
	r.ended = true
	defer r.rt.host.yield()
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

// inventory is that of stages, kept for the next list like it: strategies keep what they tried with it.
func (rt *Runtime) inventory(stages []Stage) (*offload.Inventory, []stored) {
	key := describe(stages)
	if l := rt.listed; l == nil || l.key != key {
		inv, list := rt.host.inventory(stages)
		rt.listed = &listing{key, inv, list, stages}
	}
	return rt.listed.inv, rt.listed.weights
}

type listing struct {
	key     string
	inv     *offload.Inventory
	weights []stored
	stages  []Stage // the key has their addresses, which stay theirs as long as they are kept
}

// endSession gives the device memory back.
func (rt *Runtime) endSession() error {
	s := rt.session
	rt.session = nil
	return s.close()
}

// SetOffload changes the strategy for the runs to come; nil goes back to running without a plan. Nothing of the earlier
// strategy stays.
func (rt *Runtime) SetOffload(s offload.Strategy) error {
	return rt.host.do(context.Background(), func(context.Context) error {
		err := rt.endSession()
		rt.opt.strategies = nil
		if s != nil {
			rt.opt.strategies = []offload.Strategy{s}
		}
		return err
	})
}

func describe(stages []Stage) string {
	var b strings.Builder
	for _, s := range stages {
		fmt.Fprintf(&b, "%s %s %p %d;", s.Component, s.Name, s.VM, s.Passes)
	}
	return b.String()
}
