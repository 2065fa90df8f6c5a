package pipeline_test

import (
	"os"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/offload"
)

// oneProcessor is a device for which no product is too small for the kernels of compute capability 9.0. It counts them.
type oneProcessor struct {
	device.Device
	launches *int
}

func (d oneProcessor) Kernels() device.Kernels {
	k := d.Device.Kernels()
	k.Processors = 1
	return k
}

func (d oneProcessor) Launch(s device.Stream, k *device.Kernel) error {
	if strings.HasPrefix(k.Name, "hopper_") {
		*d.launches++
	}
	return d.Device.Launch(s, k)
}

// needHopper skips on another driver than the stand-in unless somebody asks for those kernels.
func needHopper(t *testing.T) {
	t.Helper()
	if os.Getenv("EURYALE_HOPPER") != "1" && os.Getenv("EURYALE_STANDIN") != "1" {
		t.Skip("not asked for with EURYALE_HOPPER=1")
	}
	t.Setenv("EURYALE_HOPPER", "1")
	testkit.NeedDevice(t)
}

// Pipelines give what they give on the CPU with the kernels for compute capability 9.0 too, wherever their weights are.
func TestDeviceHopperPictures(t *testing.T) {
	needHopper(t)
	for _, folder := range []string{"sd1", "sdxl"} {
		want, err := openGolden(t, folder).Generate(t.Context(), onDevice())
		if err != nil {
			t.Fatal(err)
		}
		for dtype, most := range map[string]float64{"f16": 1e-2, "bf16": 6e-2} {
			t.Run(folder+"/"+dtype, func(t *testing.T) {
				launches := 0
				p := openGolden(t, folder, graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0", DType: dtype}),
					wrapped(func(d device.Device) device.Device { return oneProcessor{d, &launches} }))
				got, err := p.Generate(t.Context(), onDevice())
				if err != nil {
					t.Fatal(err)
				}
				near(t, got, want, most)
				if launches == 0 {
					t.Error("no kernel for compute capability 9.0 was launched")
				}
				if err := p.SetOffload(offload.Sequential(offload.Prefetch(1 << 15))); err != nil {
					t.Fatal(err)
				}
				streamed, err := p.Generate(t.Context(), onDevice())
				if err != nil {
					t.Fatal(err)
				}
				if hash(streamed) != hash(got) {
					t.Error("with streamed weights the picture is another")
				}
			})
		}
	}
}
