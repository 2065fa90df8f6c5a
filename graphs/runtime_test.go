package graphs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// own is a program of its own: two networks of Linear layers with one plain Gorgonia operation in each, and their
// weights, which no model folder has.
type own struct {
	rt     *graphs.Runtime
	stages []graphs.Stage // in: 1 pass, loop: 10
	x      []float32      // of in
	state  []float32      // of loop
	got    *G.Node        // of in
	end    *G.Node        // of loop
}

const ownWidth, ownPasses = 512, 10

func ownWeights() loader.Values {
	rng := rand.New(rand.NewPCG(3, 4))
	w := loader.Values{}
	for name, layers := range map[string]int{"in": 8, "loop": 12} {
		for i := range layers {
			for suffix, shape := range map[string][]int{"weight": {ownWidth, ownWidth}, "bias": {ownWidth}} {
				n := 1
				for _, d := range shape {
					n *= d
				}
				x := make([]float32, n)
				for k := range x {
					x[k] = (rng.Float32() - 0.5) / 8
				}
				w[fmt.Sprintf("%s.fc.%d.%s", name, i, suffix)] = loader.Tensor{Shape: shape, F32: x}
			}
		}
	}
	return w
}

func openOwn(t testing.TB, w loader.Source, opts ...graphs.Option) *own {
	t.Helper()
	rt, err := graphs.Open(append([]graphs.Option{graphs.WithWeights(w), graphs.WithThreads(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	o := &own{rt: rt}
	network := func(name string, n int) (x []float32, out *G.Node, vm *graphs.VM) {
		s := layers.NewScope(G.NewGraph(), name, layers.Declared{})
		leaf := s.Input("x", G.Float32, 2, ownWidth)
		f := s.On(leaf)
		for i := range n {
			if f = f.Linear(fmt.Sprint("fc.", i), ownWidth); i == 3 {
				f = f.Then("tanh", func(_ layers.Scope, x *G.Node) (*G.Node, error) { return G.Tanh(x) })
			}
		}
		out, err := f.Node()
		if err != nil {
			t.Fatal(err)
		}
		x = make([]float32, 2*ownWidth)
		if err := G.Let(leaf, tensor.New(tensor.WithShape(2, ownWidth), tensor.WithBacking(x))); err != nil {
			t.Fatal(err)
		}
		if vm, err = rt.Compile(out); err != nil {
			t.Fatal(err)
		}
		return x, out, vm
	}
	var in, loop *graphs.VM
	o.x, o.got, in = network("in", 8)
	o.state, o.end, loop = network("loop", 12)
	o.stages = []graphs.Stage{
		{VM: in, Component: "in", Bind: func(int) error { o.begin(); return nil }},
		{VM: loop, Component: "loop", Passes: ownPasses, Bind: func(pass int) error { o.turn(pass); return nil }},
	}
	return o
}

func (o *own) begin() {
	for i := range o.x {
		o.x[i] = float32(i%13)/13 - 0.5
	}
}

// turn gives the loop what the stage or the pass before made.
func (o *own) turn(pass int) {
	if pass == 0 {
		copy(o.state, floats(o.got.Value()))
	} else {
		copy(o.state, floats(o.end.Value()))
	}
}

func (o *own) run(t testing.TB) ([]float32, *graphs.OffloadStats) {
	t.Helper()
	stats, err := o.rt.Run(t.Context(), o.stages)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(floats(o.end.Value())), stats
}

// Graphs of a program of its own give the same bits under every strategy and budget, in the memory that was planned.
func TestOwnGraphsUnderEveryStrategy(t *testing.T) {
	w := ownWeights()
	want, stats := openOwn(t, w).run(t)
	if stats != nil {
		t.Fatal("statistics without a plan")
	}
	peaks := map[string]int{}
	for name, s := range map[string]offload.Strategy{
		"none": offload.None(), "model": offload.Model(), "sequential": offload.Sequential(),
		"sequential with a window": offload.Sequential(offload.Prefetch(2 << 20)), "group:4": offload.Group(4),
		"auto at 4 MiB": offload.Auto(4 << 20), "auto at 8 MiB": offload.Auto(8 << 20), "auto at 30 MiB": offload.Auto(30 << 20),
	} {
		o := openOwn(t, w, graphs.WithOffload(s))
		plan, inv, err := o.rt.Plan(t.Context(), o.stages)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if inv.Phases[1].Passes != ownPasses || inv.Phases[0].Component != "in" {
			t.Errorf("%s: phases %v", name, inv.Phases[:])
		}
		for range 2 {
			got, stats := o.run(t)
			if !slices.Equal(got, want) {
				t.Errorf("%s: other bits than without a plan", name)
			}
			if stats.Peak != plan.Peak {
				t.Errorf("%s: %d bytes were taken, the plan has %d", name, stats.Peak, plan.Peak)
			}
			peaks[name] = stats.Peak
		}
	}
	if peaks["none"] < 20<<20 || peaks["sequential"] > 2<<20 || peaks["auto at 4 MiB"] > 4<<20 {
		t.Errorf("peaks %v", peaks)
	}
}

// A loop may end early, stages may be left out, and what comes after has its weights all the same.
func TestRunsThatAreShorterThanPlanned(t *testing.T) {
	w := ownWeights()
	for name, s := range map[string]offload.Strategy{
		"without a plan": nil, "none": offload.None(), "sequential": offload.Sequential(), "with a window": offload.Sequential(offload.Prefetch(4 << 20)),
		"auto": offload.Auto(5 << 20),
	} {
		var opts []graphs.Option
		if s != nil {
			opts = append(opts, graphs.WithOffload(s))
		}
		o := openOwn(t, w, opts...)
		in, loop := o.stages[0].VM, o.stages[1].VM
		// Thrice: in, a loop whose length nobody knows, in again.
		stages := []graphs.Stage{{VM: in, Component: "in"}, {VM: loop, Component: "loop", Passes: ownPasses}, {VM: in, Component: "in", Name: "again"}}
		var want [3][]float32
		for round, passes := range []int{10, 3, 0, 10, 1} {
			run, err := o.rt.Begin(t.Context(), stages)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			pass := func(vm *graphs.VM) {
				t.Helper()
				if err := run.Pass(t.Context(), vm); err != nil {
					t.Fatalf("%s, %d passes: %v", name, passes, err)
				}
			}
			o.begin()
			pass(in)
			first := slices.Clone(floats(o.got.Value()))
			for i := range passes {
				o.turn(i)
				pass(loop)
				if i == 0 {
					check(t, name+": the first turn", &want[1], floats(o.end.Value()))
				}
			}
			copy(o.x, first)
			pass(in)
			check(t, fmt.Sprintf("%s, round %d: the end", name, round), &want[2], floats(o.got.Value()))
			if _, err := run.End(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// check compares with the first that was seen.
func check(t *testing.T, what string, want *[]float32, got []float32) {
	t.Helper()
	if *want == nil {
		*want = slices.Clone(got)
	} else if !slices.Equal(*want, got) {
		t.Errorf("%s: other bits", what)
	}
}

func TestPassesThatNoStageHas(t *testing.T) {
	w := ownWeights()
	for _, opts := range [][]graphs.Option{nil, {graphs.WithOffload(offload.Sequential())}} {
		o := openOwn(t, w, opts...)
		in, loop := o.stages[0].VM, o.stages[1].VM
		other, err := o.rt.Compile(o.got)
		if err != nil {
			t.Fatal(err)
		}
		run, err := o.rt.Begin(t.Context(), []graphs.Stage{{VM: in, Component: "in"}, {VM: loop, Component: "loop", Passes: 2}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			vm   *graphs.VM
			want string // of the error
		}{
			{other, "a pass of a graph of no stage is run; the list of stages has stage in, pass 0"},
			{in, ""}, {in, "stage in is run; the list of stages has stage loop, pass 0"},
			{loop, ""}, {in, "stage loop, pass 1"}, {loop, ""}, {loop, "stage loop is run; the list of stages has no more"},
		} {
			err := run.Pass(t.Context(), c.vm)
			if (err != nil) != (c.want != "") || err != nil && !(errors.As(err, new(*graphs.StageError)) && strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		}
		if _, err := run.End(); err != nil {
			t.Error(err)
		}
		if _, err := run.End(); err == nil {
			t.Error("a run ends twice")
		}
		if err := run.Pass(t.Context(), in); err == nil {
			t.Error("a pass after the end")
		}
	}
}

func TestStagesThatCannotRun(t *testing.T) {
	w := ownWeights()
	o, p := openOwn(t, w), openOwn(t, w)
	vm := o.stages[0].VM
	for _, c := range []struct {
		stages []graphs.Stage
		want   string
	}{
		{nil, "no stages"}, {[]graphs.Stage{{}}, "the VM is nil"}, {[]graphs.Stage{{VM: p.stages[0].VM}}, "another runtime"},
		{[]graphs.Stage{{VM: vm, Passes: -1}}, "-1 passes"},
	} {
		if _, err := o.rt.Run(t.Context(), c.stages); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Run: %v, want %q", err, c.want)
		}
		if _, _, err := o.rt.Plan(t.Context(), c.stages); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Plan: %v, want %q", err, c.want)
		}
	}
	errMine := errors.New("mine")
	stages := []graphs.Stage{{VM: vm, Read: func(int) error { return errMine }}}
	if _, err := o.rt.Run(t.Context(), stages); !errors.Is(err, errMine) {
		t.Errorf("Read: %v", err)
	}
	if _, err := o.rt.Compile(); err == nil {
		t.Error("nothing is compiled")
	}
	if _, err := o.rt.Compile(o.got, o.end); err == nil || !strings.Contains(err.Error(), "another graph") {
		t.Errorf("nodes of two graphs: %v", err)
	}
	mine := openOwn(t, w, graphs.WithOffload(panics{}))
	if _, err := mine.rt.Run(t.Context(), mine.stages); err == nil || !strings.Contains(err.Error(), "strategy panics") {
		t.Errorf("a strategy that panics: %v", err)
	}
	if _, err := mine.rt.Run(t.Context(), mine.stages); err == nil { // it is not locked
		t.Error("a strategy that panics runs")
	}
}

type panics struct{}

func (panics) Name() string                                   { return "panics" }
func (panics) Plan(*offload.Inventory) (*offload.Plan, error) { panic("mine") }

// Runs take turns; one that is cancelled or closed in the middle leaves nothing behind.
func TestRunsTakeTurns(t *testing.T) {
	w := ownWeights()
	for _, s := range []offload.Strategy{offload.None(), offload.Sequential(offload.Prefetch(1 << 20))} {
		o := openOwn(t, w, graphs.WithOffload(s))
		want, _ := o.run(t)
		run, err := o.rt.Begin(t.Context(), o.stages)
		if err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := o.rt.Run(soon, o.stages); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beside another run: %v", err)
		}
		cancel()
		if err := run.Pass(soon, o.stages[0].VM); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled: %v", err)
		}
		if err := run.Pass(t.Context(), o.stages[0].VM); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "after one that failed") {
			t.Errorf("after it: %v", err)
		}
		if _, err := run.End(); err != nil {
			t.Error(err)
		}
		if got, _ := o.run(t); !slices.Equal(got, want) {
			t.Error("a cancelled run changes the next")
		}
		if run, err = o.rt.Begin(t.Context(), o.stages); err != nil {
			t.Fatal(err)
		}
		var closed sync.WaitGroup
		closed.Go(func() { o.rt.Close() })
		closed.Wait()
		if err := run.Pass(t.Context(), o.stages[0].VM); !errors.Is(err, graphs.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		run.End()
		if _, err := o.rt.Run(t.Context(), o.stages); !errors.Is(err, graphs.ErrClosed) {
			t.Errorf("a run of a closed runtime: %v", err)
		}
	}
}

// Weights come from any source; the first that has a name gives it.
func TestSourcesOfWeights(t *testing.T) {
	base, over := ownWeights(), loader.Values{}
	zero := make([]float32, ownWidth*ownWidth)
	over["loop.fc.11.weight"] = loader.Tensor{Shape: []int{ownWidth, ownWidth}, F32: zero}
	want, _ := openOwn(t, base).run(t)
	got, _ := openOwn(t, loader.Values{}, graphs.WithWeights(base)).run(t)
	if !slices.Equal(got, want) {
		t.Error("a second source gives other bits")
	}
	got, _ = openOwn(t, over, graphs.WithWeights(base)).run(t)
	if bias := base["loop.fc.11.bias"].F32; !slices.Equal(got[:ownWidth], bias) {
		t.Error("a weight that is replaced counts")
	}
	x, err := loader.ReadFloat32(t.Context(), base, "in.fc.0.bias")
	if err != nil || !slices.Equal(x, base["in.fc.0.bias"].F32) {
		t.Errorf("ReadFloat32: %v", err)
	}
	if _, err := loader.ReadFloat32(t.Context(), base, "none"); !errors.As(err, new(*loader.Error)) {
		t.Errorf("a weight that is not there: %v", err)
	}
}

// On a device with kernels strategies give the same bits too, in runs that are shorter than planned as well.
func TestOwnGraphsOnDevice(t *testing.T) {
	testkit.NeedDevice(t)
	w := ownWeights()
	var want []float32
	for _, s := range []offload.Strategy{offload.None(), offload.Sequential(), offload.Sequential(offload.Prefetch(2 << 20)), offload.Auto(4 << 20)} {
		o := openOwn(t, w, graphs.WithOffload(s), graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0"}))
		plan, _, err := o.rt.Plan(t.Context(), o.stages)
		if err != nil {
			t.Fatal(err)
		}
		for _, passes := range []int{1, 2} {
			run, err := o.rt.Begin(t.Context(), o.stages)
			if err != nil {
				t.Fatal(err)
			}
			o.begin()
			for i := range passes + 1 {
				if i > 0 {
					o.turn(i - 1)
				}
				if err := run.Pass(t.Context(), o.stages[min(i, 1)].VM); err != nil {
					t.Fatal(err)
				}
			}
			stats, err := run.End()
			if err != nil || stats.Peak != plan.Peak {
				t.Errorf("%s: %v, peak %d, planned %d", s.Name(), err, stats.Peak, plan.Peak)
			}
		}
		check(t, s.Name(), &want, floats(o.end.Value()))
	}
}
