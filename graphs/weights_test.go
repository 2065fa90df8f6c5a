package graphs_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// A weight's node says where the weight is: nowhere, on the host, in its slot while a plan has it there.
func TestWhereWeightsAre(t *testing.T) {
	onEach(t, func(t *testing.T, d graphs.DeviceOption) {
		for name, s := range map[string]offload.Strategy{"sequential": offload.Sequential(), "none": offload.None()} {
			t.Run(name, func(t *testing.T) {
				w := loopWeights()
				rt, err := graphs.Open(graphs.WithWeights(w), graphs.WithThreads(1), graphs.WithDevice(d), graphs.WithOffload(s))
				if err != nil {
					t.Fatal(err)
				}
				defer rt.Close()
				l := newLoopGraph(t)
				vm, err := rt.Compile(l.y)
				if err != nil {
					t.Fatal(err)
				}
				leaf := func(name string) (n *G.Node) {
					for _, n = range l.x.Graph().AllNodes() {
						if n.Name() == name {
							return n
						}
					}
					t.Fatal("no node", name)
					return nil
				}
				bias, other := leaf("net.fc.bias"), leaf("net.side.weight")
				if p, ok := graphs.Where(bias); !ok || p.Loaded || p.Device != "" || p.Bytes != 4*loopWidth || bias.Value().Uintptr() != 0 {
					t.Errorf("before a run: %+v, %t", p, ok)
				}
				if _, ok := graphs.Where(l.x); ok {
					t.Error("an input is taken for a weight")
				}
				var during, beside graphs.Place
				var seen []float32
				var text string
				rt.AddHook(graphs.Hook{Layer: "net.fc", Before: func(c graphs.Call) error {
					if c.Pass == 1 {
						during, _ = graphs.Where(bias)
						beside, _ = graphs.Where(other)
						seen = slices.Clone(bias.Value().Data().([]float32))
						text = fmt.Sprint(bias.Value())
					}
					return nil
				}})
				l.begin()
				stages := []graphs.Stage{{VM: vm, Passes: 3, Carry: []graphs.Carry{{In: l.x, Out: l.y}}}}
				stats, err := rt.Run(t.Context(), stages)
				if err != nil {
					t.Fatal(err)
				}
				if during.Device == "" || !during.Loaded || during.Offset+during.Bytes > stats.Peak || text == "" {
					t.Errorf("in a call that reads it: %+v, %q", during, text)
				}
				if want := w["net.fc.bias"].F32; d.Name == "" && !slices.Equal(seen, want) || d.Name != "" && seen != nil {
					t.Errorf("in a call that reads it %d numbers are read", len(seen))
				}
				planned := false
				for _, load := range stats.Plan.Loads {
					at := load.Offset
					for _, i := range load.Weights {
						planned = planned || stats.Inventory.Weights[i].Name == "net.fc.bias" && at == during.Offset
						at += offload.AlignUp(stats.Inventory.Weights[i].Bytes)
					}
				}
				if !planned {
					t.Errorf("the plan does not have it at %d", during.Offset)
				}
				if name == "sequential" && beside.Device != "" && beside.Offset == during.Offset {
					t.Errorf("two weights are at %d", during.Offset)
				}
				after, _ := graphs.Where(bias)
				if kept := name == "none"; !after.Loaded || (after.Device != "") != kept {
					t.Errorf("after the run: %+v", after)
				}
				if bias.Value().Shape().TotalSize() != loopWidth || bias.Value().MemSize() != uintptr(4*loopWidth) {
					t.Errorf("a value of shape %v and %d bytes", bias.Value().Shape(), bias.Value().MemSize())
				}
			})
		}
	})
}
