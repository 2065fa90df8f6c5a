package graphs_test

import (
	"fmt"
	"log"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// A graph of one's own: layers of a checkpoint and plain Gorgonia operations together.
func ExampleNewVM() {
	g := G.NewGraph()
	s := layers.NewScope(g, "mine", layers.Declared{})
	x := s.Input("x", G.Float32, 1, 4)
	gamma, beta := s.Input("gamma", G.Float32, 4), s.Input("beta", G.Float32, 4)
	silu, err := s.On(x).SiLU().Node() // a layer of this module
	if err != nil {
		log.Fatal(err)
	}
	scaled := G.Must(G.HadamardProd(silu, G.Must(G.Reshape(gamma, tensor.Shape{1, 4})))) // operations of Gorgonia
	y := G.Must(G.Add(scaled, G.Must(G.Reshape(beta, tensor.Shape{1, 4}))))

	vm, err := graphs.NewVM(g, graphs.WithOutputs(y))
	if err != nil {
		log.Fatal(err)
	}
	defer vm.Close()
	for n, data := range map[*G.Node][]float32{x: {0, 1, 2, 3}, gamma: {1, 1, 1, 1}, beta: {10, 10, 10, 10}} {
		G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(data)))
	}
	if err := vm.RunAll(); err != nil {
		log.Fatal(err)
	}
	for _, v := range y.Value().Data().([]float32) {
		fmt.Printf("%.3f ", v)
	}
	// Output: 10.000 10.731 11.762 12.858
}
