package ops

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// hopperCases reach each tile of gemm_hopper.cu with each way of filling and storing it. Sizes are no multiples of tiles,
// but where they say so.
var hopperCases = []struct {
	tile int
	name string
	kind op.Kind
	in   []tensor.Shape
}{
	{128, "linear of the smallest depth", Linear{}, shapes("5 8", "16 8")},
	{128, "linear whose ring goes round", Linear{Bias: true, Act: op.SiLU}, shapes("300 968", "120 968", "120")},
	{128, "linear with a gate", Linear{Bias: true, Act: op.GEGLU}, shapes("130 72", "112 72", "112")},
	{128, "linear of whole tiles", Linear{Residual: true}, shapes("256 128", "128 128", "256 128")},
	{160, "linear of several tiles", Linear{Bias: true, Residual: true, Act: op.GELU},
		shapes("130 72", "310 72", "310", "130 310")},
	{160, "linear with a gate", Linear{Bias: true, Residual: true, Act: op.GEGLU},
		shapes("129 200", "304 200", "304", "129 152")},
	{160, "linear of whole tiles", Linear{Bias: true}, shapes("128 320", "320 320", "320")},
	{256, "linear of several tiles", Linear{Bias: true, Act: op.QuickGELU}, shapes("200 136", "501 136", "501")},
	{256, "linear with a gate", Linear{Bias: true, Act: op.GEGLU}, shapes("70 328", "496 328", "496")},
	{128, "conv of few channels", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("1 9 7 8", "24 8 3 3", "24")},
	{128, "conv whose chunks lie in several taps",
		Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}, Channels: true, Residual: true, Act: op.SiLU},
		shapes("2 9 8 24", "72 24 3 3", "72", "2 72", "2 9 8 72")},
	{128, "conv of an enlarged image", Conv{Stride: 1, Up: 2, Pad: Padding{1, 1, 1, 1}},
		shapes("1 7 5 40", "96 40 3 3", "96")},
	{160, "conv of stride 2, padded at one side", Conv{Stride: 2, Up: 1, Pad: Padding{0, 0, 1, 1}},
		shapes("2 18 14 72", "150 72 3 3", "150")},
	{160, "conv of whole tiles", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}, Channels: true},
		shapes("2 8 16 64", "160 64 3 3", "160", "2 160")},
	{256, "conv of a wide filter", Conv{Stride: 1, Up: 1, Pad: Padding{2, 3, 2, 1}},
		shapes("1 13 11 32", "203 32 5 4", "203")},
	{256, "conv of one tap and stride 2", Conv{Stride: 2, Up: 1, Residual: true},
		shapes("1 9 9 96", "250 96 1 1", "250", "1 5 5 250")},
}

// hopperDevice opens a GPU with the kernels for compute capability 9.0. On another driver than the stand-in the test is
// skipped until somebody asks for them: they are not the default, and what goes wrong in them may take the GPU with it.
func hopperDevice(t testing.TB) device.Device {
	if os.Getenv("EURYALE_HOPPER") != "1" && os.Getenv("EURYALE_STANDIN") != "1" {
		t.Skip("not asked for with EURYALE_HOPPER=1")
	}
	t.Setenv("EURYALE_HOPPER", "1")
	return cudaDevice(t)
}

// oneProcessor is a device that is busy with any product, and where one block does all tiles.
type oneProcessor struct{ device.Device }

func (d oneProcessor) Kernels() device.Kernels {
	k := d.Device.Kernels()
	k.Processors = 1
	return k
}

var halfTypes = map[dtype.Type]float64{dtype.F16: 2e-3, dtype.BF16: 1.5e-2}

// The kernels for compute capability 9.0 give what the definitions give.
func TestDeviceHopperAgreesWithDefinitions(t *testing.T) {
	dev := oneProcessor{hopperDevice(t)}
	for _, c := range hopperCases {
		for typ, most := range halfTypes {
			t.Run(fmt.Sprintf("%s/tile=%d/%v", c.name, c.tile, typ), func(t *testing.T) {
				if name := kernelOf(t, dev.Kernels(), c.kind, c.in, typ); !strings.HasPrefix(name, "hopper_") || !strings.Contains(name, fmt.Sprintf("_%d_", c.tile)) {
					t.Errorf("the kernel is %s, the case is for tiles of %d columns", name, c.tile)
				}
				agree(t, dev, c.kind, c.in, 0, typ, most)
			})
		}
	}
	for _, c := range append(opCases, deviceCases...) {
		switch c.kind.(type) {
		case Linear, Conv, ConvWindow:
		default:
			continue
		}
		for typ, most := range halfTypes {
			t.Run(fmt.Sprintf("%s/%v", c.name, typ), func(t *testing.T) { agree(t, dev, c.kind, c.in, c.ids, typ, most) })
		}
	}
}

// tensorCores is a device without the kernels for compute capability 9.0.
type tensorCores struct{ device.Device }

func (d tensorCores) Kernels() device.Kernels {
	k := d.Device.Kernels()
	k.Boxes = nil
	return k
}

// At real sizes, for which definitions are too slow, the kernels for compute capability 9.0 give what the others give. The
// stand-in driver is too slow for most of them.
func TestDeviceHopperAgreesWithTensorCores(t *testing.T) {
	dev := hopperDevice(t)
	for _, c := range deviceShapes {
		shape, err := c.kind.Infer(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if name := kernelOf(t, dev.Kernels(), c.kind, c.in, dtype.F16); !strings.HasPrefix(name, "hopper_") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(dev.Name(), "TEST STAND-IN") && c.kind.FLOPs(shape, c.in) > 2e9 {
				t.Skip("too much work for the stand-in driver")
			}
			r := newDeviceRun(t, dev)
			var in []device.Arg
			for i, v := range arguments(c.in, c.kind, 0) {
				stored := dtype.F16
				if c.kind.Float(i) {
					stored = dtype.F32
				}
				in = append(in, r.put(program.Arg{Shape: c.in[i], DType: dtype.F32, Data: program.Bytes(v.Data().([]float32))}, stored))
			}
			got := r.run(op.Op{Kind: c.kind}, shape, dtype.F16, in)
			r.dev = tensorCores{dev}
			if d := relL2(got, r.run(op.Op{Kind: c.kind}, shape, dtype.F16, in)); !(d <= 1e-3) {
				t.Errorf("the kernels differ by %g, at most 1e-3 is expected", d)
			} else {
				t.Logf("the kernels differ by %.2g", d)
			}
		})
	}
}

// kernelOf is the first kernel that an op runs on.
func kernelOf(t testing.TB, k device.Kernels, o op.Kind, in []tensor.Shape, typ dtype.Type) string {
	t.Helper()
	if k.Boxes != nil {
		k.Boxes = func(device.Matrix) (device.TensorMap, error) { return device.TensorMap{}, nil }
	}
	shape, err := o.Infer(in)
	if err != nil {
		t.Fatal(err)
	}
	args := make([]device.Arg, len(in))
	for i := range args {
		args[i] = device.Arg{Shape: in[i], DType: typ}
	}
	launches, err := o.Device(k, device.Arg{Shape: shape, DType: typ}, args, 0)
	if err != nil {
		t.Fatal(err)
	}
	return launches[0].Name
}
