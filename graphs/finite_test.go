package graphs_test

import (
	"errors"
	"testing"

	G "gorgonia.org/gorgonia"

	"github.com/euryale-ml/euryale/graphs"
	"gorgonia.org/tensor"
)

// A value may be infinite on the way and finite in the result: only checks of every operation see it.
func TestFiniteChecksSeeWhatGoesLost(t *testing.T) {
	g := G.NewGraph()
	x := G.NewVector(g, G.Float32, G.WithShape(3), G.WithName("x"), G.WithValue(tensor.New(tensor.WithBacking([]float32{1, 0, 2}))))
	log := G.Must(G.Log(x))
	G.WithName("log")(log)
	y := G.Must(G.Sigmoid(log))
	run := func(n *G.Node, o graphs.Option) error {
		vm, err := graphs.NewVM(g, graphs.WithOutputs(n), o)
		if err != nil {
			t.Fatal(err)
		}
		defer vm.Close()
		return vm.RunAll()
	}
	if err := run(y, graphs.WithOutputChecks()); err != nil {
		t.Errorf("a finite result: %v", err)
	}
	for name, err := range map[string]error{
		"checks of every operation": run(y, graphs.WithFiniteChecks()), "of the output": run(log, graphs.WithOutputChecks()),
	} {
		var e *graphs.NonFiniteError
		if !errors.As(err, &e) || e.Layer != "log" || e.Step != -1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
