package graphs_test

import (
	"errors"
	"sync"
	"testing"

	G "gorgonia.org/gorgonia"

	"github.com/euryale-ml/euryale/graphs"
	"gorgonia.org/tensor"
)

// One VM may be used from many goroutines, and closed by them.
func TestGoroutinesShareAVM(t *testing.T) {
	g := G.NewGraph()
	x := G.NewVector(g, G.Float32, G.WithShape(3), G.WithName("x"),
		G.WithValue(tensor.New(tensor.WithBacking([]float32{1, 2, 3}))))
	y := G.Must(G.Square(x))
	vm, err := graphs.NewVM(g, graphs.WithOutputs(y))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if err := vm.RunAll(); err != nil {
					t.Error(err)
				}
				vm.Stats()
			}
		})
	}
	wg.Wait()
	if got := floats(y.Value()); !(relL2(got, []float32{1, 4, 9}) == 0) {
		t.Errorf("squares %v", got)
	}
	for range 16 {
		wg.Go(func() {
			if err := vm.Close(); err != nil {
				t.Error(err)
			}
			if err := vm.RunAll(); !errors.Is(err, graphs.ErrClosed) {
				t.Errorf("a run after Close: %v", err)
			}
		})
	}
	wg.Wait()
}
