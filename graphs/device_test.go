package graphs_test

import (
	"os"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// openOnDevice opens a golden pipeline on a GPU, or skips; with GPU=1 that there is none is a failure.
func openOnDevice(t *testing.T, folder string, d graphs.DeviceOption, opts ...graphs.Option) *graphs.TextToImage {
	t.Helper()
	needDevice(t)
	d.Name = "cuda:0"
	return openGolden(t, folder, append(opts, graphs.WithDevice(d))...)
}

func needDevice(t *testing.T) {
	t.Helper()
	vm, err := graphs.NewVM(G.NewGraph(), graphs.WithVMDevice(graphs.DeviceOption{Name: "cuda:0"}))
	if err == nil {
		if err := vm.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Getenv("GPU") == "1" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// onDevice is a request small enough for a device that is emulated.
func onDevice() graphs.Request {
	return graphs.Request{Prompt: red, NumInferenceSteps: 2, Scheduler: "ddim", Seed: graphs.Seed(5), Width: 16, Height: 16}
}

// Pipelines give on a device what they give on the CPU, as far as the type they compute in goes.
func TestDevicePictures(t *testing.T) {
	for _, folder := range []string{"sd1", "sd2", "sdxl"} {
		want, err := openGolden(t, folder).Generate(t.Context(), onDevice())
		if err != nil {
			t.Fatal(err)
		}
		for dtype, most := range map[string]float64{"f32": 1e-5, "f16": 1e-2, "bf16": 6e-2} {
			t.Run(folder+"/"+dtype, func(t *testing.T) {
				p := openOnDevice(t, folder, graphs.DeviceOption{DType: dtype})
				got, err := p.Generate(t.Context(), onDevice())
				if err != nil {
					t.Fatal(err)
				}
				if d := relL2(got.Latents.Float32s(), want.Latents.Float32s()); !(d <= most) {
					t.Errorf("latents differ by %g, at most %g is expected", d, most)
				} else {
					t.Logf("latents differ by %.2g", d)
				}
			})
		}
	}
}

// TestDeviceOneHash: on a device too, no strategy, budget or hoisting choice changes a bit.
func TestDeviceOneHash(t *testing.T) {
	for _, folder := range []string{"sd1", "sdxl"} {
		t.Run(folder, func(t *testing.T) {
			p := openOnDevice(t, folder, graphs.DeviceOption{})
			res, err := p.Generate(t.Context(), onDevice())
			if err != nil {
				t.Fatal(err)
			}
			want := hash(res)
			inv, err := p.Inventory(onDevice())
			if err != nil {
				t.Fatal(err)
			}
			low, high := offload.Smallest(inv), peak(t, inv, offload.None())
			strategies := []offload.Strategy{offload.Model(), offload.Sequential(), offload.Sequential(offload.Prefetch(1 << 15)),
				offload.Group(4), offload.Auto(low), offload.Auto((low + high) / 2), nil}
			for _, s := range strategies {
				if err := p.SetOffload(s); err != nil {
					t.Fatal(err)
				}
				res, err := p.Generate(t.Context(), onDevice())
				if err != nil {
					t.Fatal(err)
				}
				if got := hash(res); got != want {
					t.Errorf("%s: hash %s, want %s", res.Offload.Strategy, got, want)
				}
				if res.Offload.Peak != res.Offload.Plan.Peak {
					t.Errorf("%s: %d bytes were taken, the plan says %d", res.Offload.Strategy, res.Offload.Peak, res.Offload.Plan.Peak)
				}
			}
		})
	}
}
