//go:build gpu

package cuda

import (
	"errors"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/cuda/standintest"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
)

func hopperKernels(d device.Device) (n int) {
	for name := range d.Kernels().Names {
		if strings.HasPrefix(name, "hopper_") {
			n++
		}
	}
	return n
}

// The kernels for compute capability 9.0 are there when they are asked for, and not else.
func TestHopperIsAskedFor(t *testing.T) {
	standintest.Start(t)
	for _, c := range []struct {
		asked, capability string
		kernels           int
		err               string
	}{
		{"", "9.0", 0, ""}, {"0", "9.0", 0, ""}, {"1", "9.0", 12, ""}, {"", "8.0", 0, ""},
		{"1", "8.0", 0, "has 8.0"}, {"1", "8.9", 0, "has 8.9"},
	} {
		t.Setenv("EURYALE_HOPPER", c.asked)
		t.Setenv("EURYALE_STANDIN_CAPABILITY", c.capability)
		d, err := Open(0)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: the error is %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if n := hopperKernels(d); n != c.kernels || (d.Kernels().Boxes != nil) != (n > 0) {
			t.Errorf("%+v: %d kernels, boxes %t", c, n, d.Kernels().Boxes != nil)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What the driver refuses, and that it fails, are errors of Boxes.
func TestBoxes(t *testing.T) {
	standintest.Start(t)
	t.Setenv("EURYALE_HOPPER", "1")
	d, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	p, err := d.Alloc(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Free(p); err != nil {
			t.Error(err)
		}
	}()
	boxes := d.Kernels().Boxes
	good := device.Matrix{Ptr: p, DType: dtype.F16, Rows: 100, Columns: 72, BoxRows: 80}
	m, err := boxes(good)
	if err != nil || m == (device.TensorMap{}) {
		t.Errorf("a good matrix: %v, empty %t", err, m == (device.TensorMap{}))
	}
	for name, change := range map[string]func(*device.Matrix){
		"of floats":                        func(m *device.Matrix) { m.DType = dtype.F32 },
		"at no multiple of 16":             func(m *device.Matrix) { m.Ptr += 8 },
		"whose rows are no multiple of 16": func(m *device.Matrix) { m.Columns = 76 },
		"of boxes too high":                func(m *device.Matrix) { m.BoxRows = 257 },
	} {
		m := good
		change(&m)
		if _, err := boxes(m); err == nil {
			t.Errorf("a matrix %s: no error", name)
		}
	}
	standintest.SetFault(standintest.Fault{Name: "cuTensorMapEncodeTiled", N: 1, Code: 801})
	var failed *device.Error
	if _, err := boxes(good); !errors.As(err, &failed) || failed.Code != 801 {
		t.Errorf("a call that fails: %v", err)
	}
}
