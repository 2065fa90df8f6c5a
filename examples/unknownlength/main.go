// Command unknownlength runs two networks under one budget, the second in a loop that ends when its result no longer
// changes: nobody knows before how long that takes. The plan is for the most passes there may be.
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"math/rand/v2"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

const width, most, budget = 256, 100, 1 << 20

func main() {
	rt, err := graphs.Open(graphs.WithWeights(weights()), graphs.WithOffload(offload.Auto(budget)))
	if err != nil {
		log.Fatal(err)
	}
	defer rt.Close()
	encoder, loop := compile(rt, "encoder", 4), compile(rt, "loop", 6)

	ctx := context.Background()
	run, err := rt.Begin(ctx, []graphs.Stage{{VM: encoder.vm, Component: "encoder"}, {VM: loop.vm, Component: "loop", Passes: most}})
	if err != nil {
		log.Fatal(err)
	}
	encoder.in[0] = 1
	if err := run.Pass(ctx, encoder.vm); err != nil {
		log.Fatal(err)
	}
	state, passes := encoder.result(), 0
	for change := 1.0; change > 1e-4 && passes < most; passes++ {
		copy(loop.in, state)
		if err := run.Pass(ctx, loop.vm); err != nil {
			log.Fatal(err)
		}
		next := loop.result()
		change = distance(next, state)
		state = next
	}
	stats, err := run.End()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("it settles after fewer passes than planned: %v\n", passes < most)
	fmt.Printf("in the budget of %d KiB: %v\n", budget>>10, stats.Peak <= budget)
}

// network is a compiled graph and the memory of its input.
type network struct {
	vm  *graphs.VM
	in  []float32 // [1 width]
	out *G.Node   // [1 width]
}

func (n network) result() []float32 {
	return append([]float32(nil), n.out.Value().Data().([]float32)...)
}

func compile(rt *graphs.Runtime, name string, depth int) network {
	s := layers.NewScope(G.NewGraph(), name, layers.Declared{})
	x := s.Input("x", G.Float32, 1, width)
	f := s.On(x)
	for i := range depth {
		f = f.Linear(fmt.Sprint(i), width).Then("tanh", func(_ layers.Scope, x *G.Node) (*G.Node, error) { return G.Tanh(x) })
	}
	out, err := f.Node()
	if err != nil {
		log.Fatal(err)
	}
	n := network{in: make([]float32, width), out: out}
	if err := G.Let(x, tensor.New(tensor.WithShape(1, width), tensor.WithBacking(n.in))); err != nil {
		log.Fatal(err)
	}
	if n.vm, err = rt.Compile(out); err != nil {
		log.Fatal(err)
	}
	return n
}

// weights are small enough for the loop to settle.
func weights() loader.Values {
	rng := rand.New(rand.NewPCG(1, 2))
	w := loader.Values{}
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64()) * 0.9 / 16
		}
		w[name] = loader.Tensor{Shape: shape, F32: x}
	}
	for name, depth := range map[string]int{"encoder": 4, "loop": 6} {
		for i := range depth {
			add(fmt.Sprintf("%s.%d.weight", name, i), width, width)
			add(fmt.Sprintf("%s.%d.bias", name, i), width)
		}
	}
	return w
}

// distance is the relative distance of two states in the Euclidean norm.
func distance(a, b []float32) float64 {
	var d, n float64
	for i := range a {
		d += math.Pow(float64(a[i]-b[i]), 2)
		n += math.Pow(float64(b[i]), 2)
	}
	return math.Sqrt(d / n)
}
