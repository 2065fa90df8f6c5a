// Package modeltest runs a model's graph with made weights, for tests that compare it with the reference.
package modeltest

import (
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Network is a graph under construction of a golden model.
type Network struct {
	T     testing.TB
	Model *golden.Model
	Scope layers.Scope

	component string
}

// New begins a graph of a component.
func New(t testing.TB, component string, m *golden.Model) *Network {
	return &Network{T: t, Model: m, Scope: layers.NewScope(G.NewGraph(), component, m), component: component}
}

// Let binds a leaf to one of the model's inputs, channels last if it has four dimensions.
func (n *Network) Let(leaf *G.Node, input string) {
	n.T.Helper()
	x, ok := n.Model.Inputs[input]
	if !ok {
		n.T.Fatalf("no input %q", input)
	}
	var data any = x.ChannelsLast()
	if leaf.Dtype() == tensor.Int32 {
		data = append([]int32(nil), x.IDs...)
	}
	n.Bind(leaf, data)
}

// Bind binds a leaf to numbers.
func (n *Network) Bind(leaf *G.Node, data any) {
	n.T.Helper()
	if err := G.Let(leaf, tensor.New(tensor.WithShape(leaf.Shape()...), tensor.WithBacking(data))); err != nil {
		n.T.Fatal(err)
	}
}

// Run runs the graph and gives the values of outputs.
func (n *Network) Run(outputs ...*G.Node) (values [][]float32) {
	n.T.Helper()
	weights := loader.Values{}
	for name, shape := range n.Model.Weights {
		weights[name] = loader.Tensor{Shape: shape, F32: golden.Weight(name, shape)}
	}
	vm, err := graphs.NewVM(outputs[0].Graph(), graphs.WithWeights(loader.Under(n.component, weights)),
		graphs.WithOutputs(outputs...), graphs.WithThreads(1))
	if err != nil {
		n.T.Fatal(err)
	}
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		n.T.Fatal(err)
	}
	for _, o := range outputs {
		values = append(values, o.Value().Data().([]float32))
	}
	return values
}

// Worst is the largest distance that was found.
type Worst float64

// tolerance is the largest distance that passes: relative L2.
const tolerance = 1e-4

// Compare compares numbers, channels last, with one of the model's outputs.
func (w *Worst) Compare(n *Network, output string, got []float32) {
	n.T.Helper()
	want, ok := n.Model.Outputs[output]
	if !ok {
		n.T.Fatalf("no output %q", output)
	}
	d := golden.RelL2(got, want.ChannelsLast())
	if !(d <= tolerance) {
		n.T.Errorf("%s: relative L2 %g, want at most %g", output, d, tolerance)
	}
	*w = max(*w, Worst(d))
}
