package graphs_test

import (
	"errors"
	"fmt"
	stdhash "hash"
	"hash/fnv"
	"runtime"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"github.com/chewxy/hm"
	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/testkit"
	"gorgonia.org/tensor"
)

// userOp is an op as a user of Gorgonia writes one: y is what do makes of x.
type userOp struct {
	do func(x G.Value) (G.Value, error)
}

func (userOp) Arity() int { return 1 }
func (userOp) Type() hm.Type {
	a := hm.TypeVariable('a')
	return hm.NewFnType(a, a)
}
func (userOp) InferShape(ds ...G.DimSizer) (tensor.Shape, error) { return ds[0].(tensor.Shape), nil }
func (op userOp) Do(in ...G.Value) (G.Value, error)              { return op.do(in[0]) }
func (userOp) ReturnsPtr() bool                                  { return false }
func (userOp) CallsExtern() bool                                 { return false }
func (userOp) OverwritesInput() int                              { return -1 }
func (userOp) WriteHash(h stdhash.Hash)                          { fmt.Fprint(h, "userOp") }
func (op userOp) Hashcode() uint32                               { h := fnv.New32a(); op.WriteHash(h); return h.Sum32() }
func (userOp) String() string                                    { return "userOp" }

// userGraph is tanh of the user's op of x, which is named "mine".
func userGraph(t *testing.T, do func(G.Value) (G.Value, error)) (*G.ExprGraph, *G.Node) {
	t.Helper()
	g := G.NewGraph()
	x := G.NewVector(g, G.Float32, G.WithShape(3), G.WithName("x"), G.WithValue(tensor.New(tensor.WithBacking([]float32{1, 2, 3}))))
	y, err := G.ApplyOp(userOp{do}, x)
	if err != nil {
		t.Fatal(err)
	}
	G.WithName("mine")(y)
	return g, G.Must(G.Tanh(y))
}

var errMine = errors.New("an error of the user's own")

// A panic in an op, or in Gorgonia or tensor below it, is an error that names the layer; the VM goes on.
func TestPanicsAreErrors(t *testing.T) {
	for _, c := range []struct {
		name, want, stack string
		do                func(G.Value) (G.Value, error)
	}{
		{"in the op", "index out of range", "userOp", func(x G.Value) (G.Value, error) { return nil, fmt.Errorf("%v", x.Data().([]float32)[x.Shape()[0]:][0]) }},
		{"with an error", errMine.Error(), "userOp", func(G.Value) (G.Value, error) { panic(errMine) }},
		{"in tensor", "", "gorgonia.org/tensor.", func(G.Value) (G.Value, error) {
			return tensor.New(tensor.WithShape(2), tensor.WithBacking([]float32{1, 2, 3})), nil
		}},
		{"in Gorgonia", "", "gorgonia.org/gorgonia.", func(G.Value) (G.Value, error) { return G.Must(G.Add(nil, nil)).Value(), nil }},
		{"for want of a result", "nil pointer", "", func(G.Value) (G.Value, error) { return nil, nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := true
			g, y := userGraph(t, func(x G.Value) (G.Value, error) {
				if bad {
					return c.do(x)
				}
				return x, nil
			})
			vm, err := graphs.NewVM(g, graphs.WithThreads(2), graphs.WithOutputs(y))
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			err = vm.RunAll()
			var p *graphs.PanicError
			if !errors.As(err, &p) || !strings.HasPrefix(err.Error(), "mine: internal error: ") || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(string(p.Stack), c.stack) {
				t.Errorf("the panic is not of %s:\n%s", c.stack, p.Stack)
			}
			if c.name == "with an error" && !errors.Is(err, errMine) {
				t.Errorf("%v hides the error", err)
			}
			bad = false
			if err := vm.RunAll(); err != nil {
				t.Fatalf("the run after it: %v", err)
			}
			if got := floats(y.Value()); !(relL2(got, []float32{0.7615942, 0.9640276, 0.9950547}) <= 1e-6) {
				t.Errorf("the run after it gives %v", got)
			}
		})
	}
}

// What is nil is named, and no thread is left behind.
func TestNilArgumentsAreErrors(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, build := range map[string]func() error{
		"no graph": func() error { _, err := graphs.NewVM(nil, graphs.WithThreads(4)); return err },
		"no leaf":  func() error { _, err := graphs.Bind[float32](nil); return err },
		"no given node": func() error {
			x := G.NewVector(G.NewGraph(), G.Float32, G.WithShape(3), G.WithName("x"))
			rt, err := graphs.Open(graphs.WithThreads(1))
			if err != nil {
				return nil
			}
			defer rt.Close()
			_, err = rt.CompileWith(graphs.CompileOptions{Given: []*G.Node{nil}}, G.Must(G.Tanh(x)))
			return err
		},
		"no such node": func() error { _, err := graphs.NewVM(G.NewGraph(), graphs.WithOutputs(nil, nil)); return err },
	} {
		if err := build(); err == nil || errors.As(err, new(*graphs.PanicError)) || !strings.Contains(err.Error(), "nil") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := graphs.Where(nil); ok {
		t.Error("nil is somewhere")
	}
	testkit.NoMoreGoroutines(t, before)
}
