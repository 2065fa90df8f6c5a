package graphs_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// loopGraph is a step x -> x + c(b(a(silu(fc x)))) + side c, of which side c is the same in all steps.
type loopGraph struct {
	x, c, side, y *G.Node
	state, cond   []float32
}

const loopWidth, loopSteps = 64, 6

func newLoopGraph(t *testing.T) (l loopGraph) {
	t.Helper()
	s := layers.NewScope(G.NewGraph(), "net", layers.Declared{})
	l.x, l.c = s.Input("x", G.Float32, 2, loopWidth), s.Input("c", G.Float32, 2, loopWidth)
	var err error
	if l.side, err = s.On(l.c).Linear("side", loopWidth).Node(); err != nil {
		t.Fatal(err)
	}
	if l.y, err = s.On(l.x).Linear("fc", loopWidth).SiLU().Linear("a", loopWidth).Linear("b", loopWidth).Linear("c", loopWidth).Add(s.On(l.side)).Add(s.On(l.x)).Node(); err != nil {
		t.Fatal(err)
	}
	for n, into := range map[*G.Node]*[]float32{l.x: &l.state, l.c: &l.cond} {
		if *into, err = graphs.Bind[float32](n); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// begin gives the leaves their values before the first step.
func (l loopGraph) begin() {
	for i := range l.state {
		l.state[i], l.cond[i] = float32(i%7)/7-0.5, float32(i%5)/5
	}
}

func loopWeights() loader.Values {
	rng, w := rand.New(rand.NewPCG(5, 6)), loader.Values{}
	for _, name := range []string{"side", "fc", "a", "b", "c"} {
		for suffix, shape := range map[string][]int{"weight": {loopWidth, loopWidth}, "bias": {loopWidth}} {
			x := make([]float32, loopWidth*(map[bool]int{true: loopWidth, false: 1}[suffix == "weight"]))
			for i := range x {
				x[i] = (rng.Float32() - 0.5) / 8
			}
			w["net."+name+"."+suffix] = loader.Tensor{Shape: shape, F32: x}
		}
	}
	return w
}

// Values that stages leave for each other are those that a program would carry itself, to the bit, on each device,
// under every strategy, and where somebody looks at them in between.
func TestStagesLeaveValuesForEachOther(t *testing.T) {
	w := loopWeights()
	onEach(t, func(t *testing.T, d graphs.DeviceOption) {
		for name, s := range map[string]offload.Strategy{"nothing": nil, "none": offload.None(), "sequential": offload.Sequential()} {
			t.Run(name, func(t *testing.T) {
				rt, err := graphs.Open(graphs.WithWeights(w), graphs.WithThreads(1), graphs.WithDevice(d))
				if err != nil {
					t.Fatal(err)
				}
				defer rt.Close()
				if err := rt.SetOffload(s); err != nil {
					t.Fatal(err)
				}
				want := byHand(t, rt)
				for _, fetch := range []bool{false, true} {
					got, seen := leaving(t, rt, fetch)
					if !slices.Equal(got, want[loopSteps-1]) {
						t.Errorf("fetch %t: other bits", fetch)
					}
					for i := range seen {
						if fetch && !slices.Equal(seen[i], want[i]) {
							t.Errorf("step %d shows other bits", i)
						}
					}
				}
			})
		}
	})
}

// byHand runs the whole graph in every step, and copies the result back.
func byHand(t *testing.T, rt *graphs.Runtime) (steps [][]float32) {
	l := newLoopGraph(t)
	vm, err := rt.Compile(l.y)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rt.Run(t.Context(), []graphs.Stage{{VM: vm, Passes: loopSteps, Bind: func(pass int) error {
		if l.begin(); pass > 0 {
			copy(l.state, floats(l.y.Value()))
		}
		return nil
	}, Read: func(int) error {
		steps = append(steps, floats(l.y.Value()))
		return nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// leaving runs what is the same in all steps once, and leaves its result and the loop's where they are.
func leaving(t *testing.T, rt *graphs.Runtime, fetch bool) (end []float32, seen [][]float32) {
	l := newLoopGraph(t)
	side, err := rt.Compile(l.side)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := rt.CompileWith(graphs.CompileOptions{Given: []*G.Node{l.side}}, l.y)
	if err != nil {
		t.Fatal(err)
	}
	stages := []graphs.Stage{
		{VM: side, Name: "side", Keep: []*G.Node{l.side}},
		{VM: loop, Name: "loop", Passes: loopSteps, Once: []*G.Node{l.side}, Carry: []graphs.Carry{{In: l.x, Out: l.y}}, Fetch: fetch,
			Read: func(int) error {
				if fetch {
					seen = append(seen, slices.Clone(l.state))
				}
				return nil
			}},
	}
	for range 2 { // the second run has the plan of the first
		l.begin()
		seen = nil
		if _, err := rt.Run(t.Context(), stages); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(floats(l.y.Value()), l.state) {
		t.Error("the input and the output that is carried to it hold different values")
	}
	return slices.Clone(l.state), seen
}

// Nodes that are not what a stage says of them are errors that name them.
func TestStagesAreChecked(t *testing.T) {
	rt, err := graphs.Open(graphs.WithWeights(loopWeights()), graphs.WithThreads(1))
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	l := newLoopGraph(t)
	vm, err := rt.Compile(l.y)
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]graphs.Stage{
		"is no input":     {Once: []*G.Node{l.side}},
		"is no output":    {Keep: []*G.Node{l.side}},
		"an input is nil": {Carry: []graphs.Carry{{Out: l.y}}},
		"output is nil":   {Carry: []graphs.Carry{{In: l.x}}},
		`"net.side"`:      {Carry: []graphs.Carry{{In: l.x, Out: l.side}}},
	} {
		s.VM = vm
		if _, err := rt.Run(t.Context(), []graphs.Stage{s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
