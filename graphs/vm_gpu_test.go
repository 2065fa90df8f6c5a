//go:build gpu

package graphs_test

import (
	"errors"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/cuda/standintest"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/seam"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// sums is a VM on the stand-in whose graph activates its input x [2 8].
func sums(t *testing.T, opts ...graphs.Option) (vm *graphs.VM, x *G.Node) {
	t.Helper()
	g := G.NewGraph()
	s := layers.NewScope(g, "custom", layers.Declared{})
	x = s.Input("x", G.Float32, 2, 8)
	if _, err := s.On(x).SiLU().Node(); err != nil {
		t.Fatal(err)
	}
	vm, err := graphs.NewVM(g, append(opts, graphs.WithDevice(cuda0))...)
	if err != nil {
		t.Fatal(err)
	}
	return vm, x
}

func let(t *testing.T, n *G.Node, shape ...int) {
	t.Helper()
	v := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(tensor.Range(tensor.Float32, 0, tensor.Shape(shape).TotalSize())))
	if err := G.UnsafeLet(n, v); err != nil {
		t.Fatal(err)
	}
}

func TestDeviceVMIsClosedTwice(t *testing.T) {
	standintest.Start(t)
	vm, x := sums(t)
	let(t, x, 2, 8)
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	}
	standintest.NoLeaks(t, "after Close")
}

// A VM that found no memory, on the device or at the allocation, runs once there is some.
func TestDeviceVMRunsAfterAnError(t *testing.T) {
	for name, fault := range map[string]func(){
		"no memory is free": func() { standintest.SetMemory(1<<30, 1<<30, 0) },
		"none is given":     func() { standintest.SetFault(standintest.Fault{Name: "cuMemAlloc", N: 1, Code: 2}) },
		"an event fails":    func() { standintest.SetFault(standintest.Fault{Name: "cuEventCreate", N: 1, Code: 2}) },
		"a lock fails":      func() { standintest.SetFault(standintest.Fault{Name: "cuMemHostRegister", N: 1, Code: 2}) },
		"a launch fails":    func() { standintest.SetFault(standintest.Fault{Name: "cuLaunchKernel", N: 1, Code: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			standintest.Start(t)
			vm, x := sums(t)
			let(t, x, 2, 8)
			fault()
			if err := vm.RunAll(); err == nil || errors.As(err, new(*graphs.PanicError)) {
				t.Errorf("error %v", err)
			}
			standintest.SetFault(standintest.Fault{})
			standintest.SetMemory(1<<30, 0, 0)
			if n := standintest.Calls("cuEventDestroy"); n != 0 && name == "an event fails" {
				t.Errorf("%d events are destroyed, none was made", n)
			}
			for range 2 {
				if err := vm.RunAll(); err != nil {
					t.Error(err)
				}
			}
			if err := vm.Close(); err != nil {
				t.Error(err)
			}
			standintest.NoLeaks(t, "after Close")
		})
	}
}

var cuda0 = graphs.DeviceOption{Name: "cuda:0"}

// unrecorded is a device that fails to record as many events as bad says, after as many as good.
type unrecorded struct {
	device.Device
	good, bad int
}

func (u *unrecorded) Record(e device.Event, s device.Stream) error {
	if u.good--; u.good < 0 && u.bad > 0 {
		u.bad--
		return errors.New("no record")
	}
	return u.Device.Record(e, s)
}

// A run that could not wait for its work is not taken for one that did: the next waits before it writes where that work
// reads.
func TestDeviceVMWaitsForWhatCouldNotBeWaitedFor(t *testing.T) {
	standintest.Start(t)
	var u unrecorded
	vm, x := sums(t, graphs.WithSeam(&seam.Seam{Wrap: func(d device.Device) device.Device { u.Device = d; return &u }}))
	defer vm.Close()
	let(t, x, 2, 8)
	for _, c := range [][2]int{{}, {1, 3}, {}, {1, 3}, {0, 1}, {}} { // 3: a run waits twice, and so does its end
		u.good, u.bad = c[0], c[1]
		if err := vm.RunAll(); (c[1] > 0) != (err != nil) {
			t.Errorf("%d records fail after %d: %v", c[1], c[0], err)
		}
	}
}

// Ops that are not about weights may read one too: it is then of the type that kernels read.
func TestDeviceReadsWeightsAsActivations(t *testing.T) {
	testkit.NeedDevice(t)
	m, w := testkit.TinyUNet(t)
	const name = "time_embedding.linear_1.weight"
	shape, _, err := w.Shape(name)
	if err != nil {
		t.Fatal(name, err)
	}
	sum := func(opts ...graphs.Option) []float32 {
		g := G.NewGraph()
		s := layers.NewScope(g, "unet", w)
		x := s.Input("x", G.Float32, shape...)
		y, err := s.On(x).Add(s.On(s.Weight(name, shape...))).Node()
		if err != nil {
			t.Fatal(err)
		}
		vm, err := graphs.NewVM(g, append(opts, graphs.WithModel(m))...)
		if err != nil {
			t.Fatal(err)
		}
		defer vm.Close()
		if err := G.Let(x, tensor.New(tensor.WithShape(shape...), tensor.Of(tensor.Float32))); err != nil {
			t.Fatal(err)
		}
		if err := vm.RunAll(); err != nil {
			t.Fatal(err)
		}
		return y.Value().Data().([]float32)
	}
	want := sum()
	for dtype, most := range map[string]float64{"f32": 0, "f16": 1e-3, "bf16": 1e-2} {
		got := sum(graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0", DType: dtype}))
		if d := relL2(got, want); !(d <= most) {
			t.Errorf("%s: the sum differs by %g, at most %g is expected", dtype, d, most)
		}
	}
}
