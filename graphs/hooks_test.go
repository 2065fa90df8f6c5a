package graphs_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/seam"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/offload"
)

// hooked is the loop graph in a runtime, and what it made without hooks.
type hooked struct {
	*graphs.Runtime
	loopGraph
	stages []graphs.Stage
	want   []float32
}

func newHooked(t *testing.T, opts ...graphs.Option) *hooked {
	t.Helper()
	rt, err := graphs.Open(append(opts, graphs.WithWeights(loopWeights()), graphs.WithThreads(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	h := &hooked{Runtime: rt, loopGraph: newLoopGraph(t)}
	vm, err := rt.Compile(h.y)
	if err != nil {
		t.Fatal(err)
	}
	h.stages = []graphs.Stage{{VM: vm, Component: "net", Name: "loop", Passes: loopSteps, Carry: []graphs.Carry{{In: h.x, Out: h.y}}}}
	if h.want, err = h.run(t); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hooked) run(t *testing.T) ([]float32, error) {
	h.begin()
	_, err := h.Run(t.Context(), h.stages)
	return slices.Clone(h.state), err
}

// Hooks are called in order, for the calls that they are for, until they are removed.
func TestHooksAreCalledForWhatTheyMatch(t *testing.T) {
	onEach(t, func(t *testing.T, d graphs.DeviceOption) {
		h := newHooked(t, graphs.WithDevice(d))
		var order []string
		count := map[string]int{}
		note := func(name string) graphs.Hook {
			return graphs.Hook{
				Before: func(c graphs.Call) error {
					if c.Index == 0 && c.Pass == 2 {
						order = append(order, name)
					}
					return nil
				},
				After: func(graphs.Call) error { count[name]++; return nil },
			}
		}
		var calls []graphs.Call
		first := note("first")
		first.Before = func(c graphs.Call) error {
			if c.Pass == 0 {
				calls = append(calls, c)
			}
			if c.Index == 0 && c.Pass == 2 {
				order = append(order, "first")
			}
			return nil
		}
		removeFirst := h.AddHook(first)
		h.AddHook(note("second"))
		for name, match := range map[string]graphs.Hook{
			"component": {Component: "net"}, "other component": {Component: "ne"}, "layer": {Layer: "net.fc"}, "module": {Layer: "net"},
			"half a name": {Layer: "net.f"}, "op": {Op: "Linear"}, "other op": {Op: "Conv"},
		} {
			hook := note(name)
			hook.Before = nil
			hook.Component, hook.Layer, hook.Op = match.Component, match.Layer, match.Op
			h.AddHook(hook)
		}
		got, err := h.run(t)
		if err != nil || !slices.Equal(got, h.want) {
			t.Fatalf("other bits with hooks, error %v", err)
		}
		if !slices.Equal(order, []string{"first", "second"}) {
			t.Errorf("called in the order %v", order)
		}
		n := len(calls)
		linear := 0
		for i, c := range calls {
			if c.Op == "Linear" {
				linear++
			}
			if c.Index != i || c.Component != "net" || c.Stage != "loop" || c.Bytes == 0 || (c.Op == "Linear") != (c.FLOPs > 0 && c.Weights > 0) {
				t.Errorf("call %d: %+v", i, c)
			}
		}
		for name, want := range map[string]int{
			"first": n, "second": n, "component": n, "other component": 0, "module": n, "half a name": 0, "op": linear, "other op": 0, "layer": 1,
		} {
			if count[name] != want*loopSteps || n == 0 {
				t.Errorf("%s: %d calls of %d in %d passes", name, count[name], want, loopSteps)
			}
		}
		removeFirst()
		removeFirst()
		before := maps.Clone(count)
		if _, err := h.run(t); err != nil {
			t.Fatal(err)
		}
		if count["first"] != before["first"] || count["second"] != 2*before["second"] {
			t.Errorf("after one is removed: %v, then %v", before, count)
		}
	})
}

// A hook sees a result, changes it for what comes after it, and takes the place of a call.
func TestHooksSeeChangeAndReplaceResults(t *testing.T) {
	onEach(t, func(t *testing.T, d graphs.DeviceOption) {
		for name, s := range map[string]offload.Strategy{"nothing": nil, "sequential": offload.Sequential()} {
			t.Run(name, func(t *testing.T) {
				h := newHooked(t, graphs.WithDevice(d))
				if err := h.SetOffload(s); err != nil {
					t.Fatal(err)
				}
				last := func(c graphs.Call) bool { return c.Pass == loopSteps-1 && c.Layer == h.y.Name() }
				var seen []float32
				var sum graphs.Summary
				look := graphs.Hook{See: func(c graphs.Call, at *graphs.Tensors) (err error) {
					if last(c) {
						if seen, err = at.Out.Float32(); err == nil {
							sum, err = at.Out.Summary()
						}
					}
					return err
				}}
				remove := h.AddHook(look)
				got, err := h.run(t)
				if err != nil || !slices.Equal(got, h.want) {
					t.Fatalf("other bits with a hook that looks, error %v", err)
				}
				total := 0.0
				for _, v := range got {
					total += float64(v)
				}
				if !slices.Equal(seen, got) || sum.Min != slices.Min(got) || sum.Max != slices.Max(got) ||
					math.Abs(float64(sum.Mean)-total/float64(len(got))) > 1e-5 || sum.NonFinite != 0 {
					t.Errorf("the hook saw %+v of %d numbers", sum, len(seen))
				}
				remove()

				// The last result twice as large, by one hook, and one more, by the next.
				removeDouble := h.AddHook(graphs.Hook{See: func(c graphs.Call, at *graphs.Tensors) error {
					return change(at, last(c), func(v float32) float32 { return 2 * v })
				}})
				removeMore := h.AddHook(graphs.Hook{See: func(c graphs.Call, at *graphs.Tensors) error {
					return change(at, last(c), func(v float32) float32 { return v + 1 })
				}})
				if got, err = h.run(t); err != nil {
					t.Fatal(err)
				}
				for i, v := range got {
					if math.Abs(float64(v-(2*h.want[i]+1))) > 2e-3 {
						t.Fatalf("number %d is %g, want twice %g and one", i, v, h.want[i])
					}
				}
				removeDouble()
				removeMore()

				// In place of the last call: a constant, which the call does not overwrite, and a later hook is not asked.
				asked := 0
				h.AddHook(graphs.Hook{Instead: func(c graphs.Call, at *graphs.Tensors) (bool, error) {
					if !last(c) {
						return false, nil
					}
					if _, err := at.In[0].Float32(); err != nil {
						return false, err
					}
					return true, at.Out.Set(slices.Repeat([]float32{3}, at.Out.Shape().TotalSize()))
				}})
				h.AddHook(graphs.Hook{Instead: func(c graphs.Call, _ *graphs.Tensors) (bool, error) {
					if last(c) {
						asked++
					}
					return false, nil
				}})
				if got, err = h.run(t); err != nil || slices.Min(got) != 3 || slices.Max(got) != 3 || asked != 0 {
					t.Errorf("%v, error %v, %d later hooks asked", got[:4], err, asked)
				}
				mine := errors.New("mine")
				h.AddHook(graphs.Hook{Layer: "net.fc", After: func(graphs.Call) error { return mine }})
				if _, err := h.run(t); !errors.Is(err, mine) {
					t.Errorf("a hook's error: %v", err)
				}
			})
		}
	})
}

func change(at *graphs.Tensors, wanted bool, f func(float32) float32) error {
	if !wanted {
		return nil
	}
	x, err := at.Out.Float32()
	if err != nil {
		return err
	}
	for i := range x {
		x[i] = f(x[i])
	}
	return at.Out.Set(x)
}

// What is no result cannot be changed, and what does not fit a tensor is refused.
func TestHooksWriteOnlyResults(t *testing.T) {
	h := newHooked(t)
	var errs []error
	h.AddHook(graphs.Hook{Layer: "net.fc", See: func(_ graphs.Call, at *graphs.Tensors) error {
		_, packed := at.In[1].Float32()
		errs = append(errs, at.In[0].Set(make([]float32, 2*loopWidth)), at.Out.Set(nil), packed)
		return nil
	}})
	if _, err := h.run(t); err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if err == nil {
			t.Errorf("mistake %d is taken", i)
		}
	}
}

// From a hook a runtime may be closed, and nothing that would wait for the run hangs.
func TestWhatHooksMayCall(t *testing.T) {
	for name, s := range map[string]offload.Strategy{"nothing": nil, "sequential": offload.Sequential(offload.Prefetch(1 << 14))} {
		t.Run(name, func(t *testing.T) {
			var opts []graphs.Option
			if s != nil {
				opts = append(opts, graphs.WithOffload(s))
			}
			h := newHooked(t, opts...)
			remove := h.AddHook(graphs.Hook{Layer: "net.fc", Before: func(graphs.Call) error {
				if err := h.SetOffload(offload.None()); !errors.Is(err, graphs.ErrRunning) {
					return fmt.Errorf("SetOffload: %w", err)
				}
				_, err := h.Compile(h.side)
				return err
			}})
			if got, err := h.run(t); err != nil || !slices.Equal(got, h.want) {
				t.Errorf("other bits, error %v", err)
			}
			remove()
			h.AddHook(graphs.Hook{Layer: "net.fc", See: func(c graphs.Call, _ *graphs.Tensors) error {
				if c.Pass == 2 {
					return h.Close()
				}
				return nil
			}})
			if _, err := h.run(t); !errors.Is(err, graphs.ErrClosed) {
				t.Errorf("closed in a hook: %v", err)
			}
			if _, err := h.run(t); !errors.Is(err, graphs.ErrClosed) {
				t.Errorf("a later run: %v", err)
			}
		})
	}
}

// traffic counts what leaves a device, and its graphs.
type traffic struct {
	device.Device
	bytes, graphs int
}

func (o *traffic) CopyOut(s device.Stream, dst []byte, src device.Ptr) error {
	o.bytes += len(dst)
	return o.Device.CopyOut(s, dst, src)
}

func (o *traffic) LaunchGraph(s device.Stream, g device.Graph) error {
	o.graphs++
	return o.Device.LaunchGraph(s, g)
}

// Hooks that look at no tensor leave the launches of a device together; those that do copy what they look at, and no
// more.
func TestHooksCostADeviceWhatTheyLookAt(t *testing.T) {
	var seen traffic
	onDevice := graphs.DeviceOption{Name: "cuda:0", DType: "f32"}
	testkit.NeedDevice(t)
	h := newHooked(t, graphs.WithDevice(onDevice), graphs.WithSeam(&seam.Seam{Wrap: func(d device.Device) device.Device {
		seen.Device = d
		return &seen
	}}))
	cost := func() (bytes, launched int) {
		seen.bytes, seen.graphs = 0, 0
		if _, err := h.run(t); err != nil {
			t.Fatal(err)
		}
		return seen.bytes, seen.graphs
	}
	cost()
	bytes, launched := cost()
	timed := 0
	h.AddHook(graphs.Hook{Before: func(graphs.Call) error { timed++; return nil }})
	if b, n := cost(); b != bytes || n != launched || timed == 0 || launched == 0 {
		t.Errorf("with a hook that times %d calls: %d bytes and %d graphs, without %d and %d", timed, b, n, bytes, launched)
	}
	h.AddHook(graphs.Hook{Layer: "net.fc", See: func(_ graphs.Call, at *graphs.Tensors) error {
		_, err := at.Out.Float32()
		return err
	}})
	if b, _ := cost(); b != bytes+loopSteps*2*loopWidth*4 {
		t.Errorf("a hook that looks at one result of %d bytes copies %d bytes in %d steps", 2*loopWidth*4, b-bytes, loopSteps)
	}
}
