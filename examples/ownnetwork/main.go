// Command ownnetwork runs a network of the program's own, whose weights it makes itself, in a tenth of the memory
// that the weights take: the plan says the peak before anything runs, and the run keeps to it.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

const width, depth = 512, 16

func main() {
	weights := loader.Values{}
	var all int
	for i := range depth {
		all += fill(weights, fmt.Sprintf("mlp.%d.weight", i), width, width)
		all += fill(weights, fmt.Sprintf("mlp.%d.bias", i), width)
	}
	fmt.Printf("weights: %d MiB\n", all>>20)

	var first []float32
	for _, strategy := range []offload.Strategy{offload.None(), offload.Sequential(), offload.Auto(4 << 20)} {
		y, peak, err := run(weights, strategy)
		if err != nil {
			log.Fatal(err)
		}
		if first == nil {
			first = y
		}
		fmt.Printf("%-10s  %5.2f MiB, the same bits: %v\n", strategy.Name(), float64(peak)/(1<<20), same(first, y))
	}
}

// run builds the network, compiles it and runs it once under a strategy.
func run(weights loader.Source, strategy offload.Strategy) (y []float32, peak int, err error) {
	s := layers.NewScope(G.NewGraph(), "mlp", layers.Declared{})
	x := s.Input("x", G.Float32, 1, width)
	f := s.On(x)
	for i := range depth {
		f = f.Linear(fmt.Sprint(i), width).SiLU()
	}
	out, err := f.Node()
	if err != nil {
		return nil, 0, err
	}
	values := make([]float32, width)
	values[0] = 1
	if err := G.Let(x, tensor.New(tensor.WithShape(1, width), tensor.WithBacking(values))); err != nil {
		return nil, 0, err
	}

	rt, err := graphs.Open(graphs.WithWeights(weights), graphs.WithOffload(strategy))
	if err != nil {
		return nil, 0, err
	}
	defer rt.Close()
	vm, err := rt.Compile(out)
	if err != nil {
		return nil, 0, err
	}
	stages := []graphs.Stage{{VM: vm, Component: "mlp"}}
	ctx := context.Background()
	plan, _, err := rt.Plan(ctx, stages)
	if err != nil {
		return nil, 0, err
	}
	stats, err := rt.Run(ctx, stages)
	if err != nil {
		return nil, 0, err
	}
	if stats.Peak != plan.Peak {
		return nil, 0, fmt.Errorf("the run took %d bytes, the plan has %d", stats.Peak, plan.Peak)
	}
	return out.Value().Data().([]float32), stats.Peak, nil
}

// fill makes a weight of random numbers and returns its bytes.
func fill(weights loader.Values, name string, shape ...int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(weights))))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64()) / 16
	}
	weights[name] = loader.Tensor{Shape: shape, F32: x}
	return 4 * n
}

func same(a, b []float32) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}
