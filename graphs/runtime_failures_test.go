package graphs_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// nameless panics in Name, too.
type nameless struct{}

func (*nameless) Name() string                                   { panic("mine") }
func (*nameless) Plan(*offload.Inventory) (*offload.Plan, error) { panic("mine") }

// unreadable is a source that panics.
type unreadable struct{ loader.Values }

func (unreadable) ReadTensor(context.Context, string, []byte) error { panic("mine") }

// Whatever goes wrong before a run begins, or in it, the runtime can be used afterwards, or says why not at once.
func TestRuntimesThatFailCanBeUsedAgain(t *testing.T) {
	w := ownWeights()
	for name, opts := range map[string][]graphs.Option{
		"a nil plan":                {graphs.WithPlan(nil)},
		"a strategy without a name": {graphs.WithOffload(&nameless{})},
		"two of them":               {graphs.WithOffload(&nameless{}), graphs.WithOffload(&nameless{})},
	} {
		o := openOwn(t, w, opts...)
		for range 2 {
			if _, err := o.rt.Run(t.Context(), o.stages); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
	for _, opts := range [][]graphs.Option{nil, {graphs.WithOffload(offload.Sequential())}} {
		bad := openOwn(t, unreadable{w}, opts...)
		for range 2 {
			if _, err := bad.rt.Run(t.Context(), bad.stages); !errors.As(err, new(*graphs.PanicError)) {
				t.Errorf("a source that panics: %v", err)
			}
		}
	}
	many := openOwn(t, w, graphs.WithOffload(offload.None()))
	for _, n := range []int{1 << 40, int(^uint(0) >> 1)} {
		if _, err := many.rt.Run(t.Context(), []graphs.Stage{{VM: many.stages[0].VM, Passes: n}}); err == nil || !strings.Contains(err.Error(), "calls") {
			t.Errorf("%d passes: %v", n, err)
		}
	}
	many.run(t)
}

// A hook that panics ends the run, since nobody knows how far the pass came; the next run is a new one.
func TestHooksThatPanicEndTheRun(t *testing.T) {
	w := ownWeights()
	want, _ := openOwn(t, w).run(t)
	bad := true
	o := openOwn(t, w, graphs.WithOffload(offload.Sequential(offload.Prefetch(1<<20))), graphs.WithHooks(graphs.Hook{Layer: "loop.fc.4", Before: func(graphs.Call) error {
		if bad {
			panic("mine")
		}
		return nil
	}}))
	run, err := o.rt.Begin(t.Context(), o.stages)
	if err != nil {
		t.Fatal(err)
	}
	o.begin()
	if err := run.Pass(t.Context(), o.stages[0].VM); err != nil {
		t.Fatal(err)
	}
	o.turn(0)
	for range 2 {
		if err := run.Pass(t.Context(), o.stages[1].VM); !errors.As(err, new(*graphs.PanicError)) {
			t.Errorf("a pass whose hook panics, and the one after it: %v", err)
		}
	}
	if _, err := run.End(); err != nil {
		t.Error(err)
	}
	bad = false
	if got, _ := o.run(t); !slices.Equal(got, want) {
		t.Error("the run after it has other bits")
	}
}

// Graphs of another runtime are in no stage, and closing one graph of a runtime closes that alone.
func TestGraphsKeepToTheirRuntime(t *testing.T) {
	w := ownWeights()
	for _, opts := range [][]graphs.Option{nil, {graphs.WithOffload(offload.Sequential())}} {
		o, p := openOwn(t, w, opts...), openOwn(t, w, opts...)
		run, err := o.rt.Begin(t.Context(), o.stages)
		if err != nil {
			t.Fatal(err)
		}
		for _, vm := range []*graphs.VM{p.stages[0].VM, nil} {
			if err := run.Pass(t.Context(), vm); !errors.As(err, new(*graphs.StageError)) {
				t.Errorf("a graph of another runtime: %v", err)
			}
		}
		if _, err := run.End(); err != nil {
			t.Error(err)
		}
		want, _ := o.run(t)
		spare, err := o.rt.Compile(o.got)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(spare.RunAll(), spare.Close(), spare.Close()); err != nil {
			t.Error(err)
		}
		if err := spare.RunAll(); !errors.Is(err, graphs.ErrClosed) {
			t.Errorf("a closed graph: %v", err)
		}
		if got, _ := o.run(t); !slices.Equal(got, want) {
			t.Error("other bits after a graph is closed")
		}
		if err := o.rt.Close(); err != nil {
			t.Error(err)
		}
		if _, err := o.rt.Compile(o.got); !errors.Is(err, graphs.ErrClosed) {
			t.Errorf("a graph of a closed runtime: %v", err)
		}
	}
}

// Options that have no effect are errors, and finite checks have one.
func TestOptionsOfARuntime(t *testing.T) {
	for name, opt := range map[string]graphs.Option{
		"WithScheduler": pipeline.WithScheduler("ddim"), "WithVAETiling": pipeline.WithVAETiling(), "WithoutHoisting": pipeline.WithoutHoisting(),
		"WithLimits": pipeline.WithLimits(pipeline.Limits{}), "WithOutputs": graphs.WithOutputs(),
	} {
		if _, err := graphs.Open(opt); err == nil || !strings.Contains(err.Error(), name+" has no effect") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := graphs.Open(graphs.WithWeights(nil)); err == nil || !strings.Contains(err.Error(), "nil") {
		t.Errorf("a nil source: %v", err)
	}
	w := ownWeights()
	w["in.fc.2.bias"].F32[7] = float32(math.Inf(1))
	o := openOwn(t, w)
	o.run(t)
	o = openOwn(t, w, graphs.WithFiniteChecks())
	var bad *graphs.NonFiniteError
	if _, err := o.rt.Run(t.Context(), o.stages); !errors.As(err, &bad) || bad.Layer != "in.fc.2" {
		t.Errorf("an infinite bias: %v", err)
	}
}

// A stage whose graph computes nothing takes its turn as any other, in a trace too.
func TestStagesWithoutCalls(t *testing.T) {
	o := openOwn(t, ownWeights(), graphs.WithTrace(), graphs.WithOffload(offload.None()))
	leaf := G.NewTensor(G.NewGraph(), G.Float32, 2, G.WithShape(1, 2), G.WithName("leaf"))
	if err := G.Let(leaf, tensor.New(tensor.WithShape(1, 2), tensor.WithBacking([]float32{1, 2}))); err != nil {
		t.Fatal(err)
	}
	vm, err := o.rt.Compile(leaf)
	if err != nil {
		t.Fatal(err)
	}
	in := o.stages[0]
	stats, err := o.rt.Run(t.Context(), []graphs.Stage{in, {VM: vm, Component: "leaf"}, in})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, e := range stats.Events {
		if !e.Copy {
			calls++
		}
	}
	if want := 2 * len(stats.Inventory.Phases[0].Calls); calls != want {
		t.Errorf("%d calls in the trace, want %d", calls, want)
	}
}

// What was alive in each call is what the plan said.
func TestTracesKnowWhatIsAlive(t *testing.T) {
	for _, s := range []offload.Strategy{offload.Sequential(), offload.Auto(4 << 20)} {
		o := openOwn(t, ownWeights(), graphs.WithTrace(), graphs.WithOffload(s))
		_, stats := o.run(t)
		var live []int
		for _, e := range stats.Events {
			if !e.Copy {
				live = append(live, e.Live)
			}
		}
		want := stats.Plan.Live(stats.Inventory)
		if !slices.Equal(live, want) || slices.Max(live) == 0 || slices.Max(live) > stats.Peak {
			t.Errorf("%s: %d calls, at most %d bytes; planned %d calls, at most %d; the peak is %d",
				s.Name(), len(live), slices.Max(live), len(want), slices.Max(want), stats.Peak)
		}
	}
}
