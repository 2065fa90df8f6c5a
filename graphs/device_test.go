package graphs_test

import (
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	"gorgonia.org/tensor"
)

// onEach runs a test on the CPU and on a GPU.
func onEach(t *testing.T, f func(t *testing.T, d graphs.DeviceOption)) {
	t.Run("cpu", func(t *testing.T) { f(t, graphs.DeviceOption{}) })
	t.Run("cuda", func(t *testing.T) {
		testkit.NeedDevice(t)
		f(t, graphs.DeviceOption{Name: "cuda:0"})
	})
}

// Numbers that are places in something are checked before anything is read there.
func TestNumbersOutOfBounds(t *testing.T) {
	onEach(t, func(t *testing.T, d graphs.DeviceOption) {
		for _, c := range []struct {
			name string
			ids  []int32
			at   int32
			want string
		}{
			{"all are there", []int32{0, 6, 1, 6}, 3, ""},
			{"a token beyond the table", []int32{0, 1, 7, 6}, 3, `input "text.ids": number 7, at place 2, is not from 0 to 6`},
			{"a negative token", []int32{0, 1, 2, -1}, 3, `input "text.ids": number -1, at place 3, is not from 0 to 6`},
			{"a position beyond the sequence", []int32{0, 1, 2, 3}, 4, `input "text.at": number 4, at place 0, is not from 0 to 3`},
			{"a negative position", []int32{0, 1, 2, 3}, -1, `input "text.at": number -1, at place 0, is not from 0 to 3`},
		} {
			t.Run(c.name, func(t *testing.T) {
				g := G.NewGraph()
				s := layers.NewScope(g, "text", layers.Declared{})
				ids, at := s.Input("ids", G.Int32, 1, 4), s.Input("at", G.Int32, 1)
				if _, err := s.On(ids).Embed(7, 5, 8).Pick(at).Node(); err != nil {
					t.Fatal(err)
				}
				vm, err := graphs.NewVM(g, graphs.WithDevice(d))
				if err != nil {
					t.Fatal(err)
				}
				defer vm.Close()
				for _, n := range g.AllNodes() {
					switch {
					case n == ids:
						err = G.Let(n, tensor.New(tensor.WithShape(1, 4), tensor.WithBacking(c.ids)))
					case n == at:
						err = G.Let(n, tensor.New(tensor.WithShape(1), tensor.WithBacking([]int32{c.at})))
					case n.Op() == nil:
						err = G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.Of(tensor.Float32)))
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if err = vm.RunAll(); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v, want %q", err, c.want)
				}
			})
		}
	})
}

// Leaves may be outputs, whether calls read them or not: they hold what they held.
func TestLeavesAsOutputs(t *testing.T) {
	onEach(t, func(t *testing.T, d graphs.DeviceOption) {
		m, w := testkit.TinyUNet(t)
		const name = "time_embedding.linear_1.bias"
		shape, _, _ := w.Shape(name)
		for _, called := range []bool{false, true} {
			g := G.NewGraph()
			s := layers.NewScope(g, "unet", w)
			x, bias := s.Input("x", G.Float32, shape...), s.Weight(name, shape...)
			sum, err := s.On(x).Add(s.On(bias)).Node()
			if err != nil {
				t.Fatal(err)
			}
			outputs := []*G.Node{x, bias}
			if called {
				outputs = append(outputs, sum)
			}
			vm, err := graphs.NewVM(g, graphs.WithModel(m), graphs.WithDevice(d), graphs.WithOutputs(outputs...))
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			given := tensor.Range(tensor.Float32, 1, 1+shape[0]).([]float32)
			given[0] = 1 + 1e-6 // which 16 bits do not hold
			if err := G.Let(x, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(slices.Clone(given)))); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := vm.RunAll(); err != nil {
					t.Fatal(err)
				}
				if got := x.Value().Data().([]float32); !slices.Equal(got, given) {
					t.Errorf("called %t: the input is %v", called, got)
				}
				if got := bias.Value().Data().([]float32); got[0] == 0 || len(got) != shape[0] {
					t.Errorf("called %t: the weight is %v", called, got)
				}
			}
		}
	})
}
