package pipeline_test

import (
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/seam"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// openOnDevice opens a golden pipeline on a GPU, or skips; with GPU=1 that there is none is a failure.
func openOnDevice(t *testing.T, folder string, d graphs.DeviceOption, opts ...graphs.Option) *pipeline.TextToImage {
	t.Helper()
	testkit.NeedDevice(t)
	d.Name = "cuda:0"
	return openGolden(t, folder, append(opts, graphs.WithDevice(d))...)
}

// onDevice is a request small enough for a device that is emulated.
func onDevice() pipeline.Request {
	return pipeline.Request{Prompt: red, NumInferenceSteps: 2, Scheduler: "ddim", Seed: pipeline.Seed(5), Width: 16, Height: 16}
}

// near compares latents.
func near(t *testing.T, got, want *pipeline.Result, most float64) {
	t.Helper()
	if d := golden.RelL2(got.Latents.Float32s(), want.Latents.Float32s()); !(d <= most) {
		t.Errorf("latents differ by %g, at most %g is expected", d, most)
	} else {
		t.Logf("latents differ by %.2g", d)
	}
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
				near(t, got, want, most)
			})
		}
	}
}

// Every scheduler takes its steps on the device as on the CPU, with all that its state and guidance can be.
func TestDeviceSchedulers(t *testing.T) {
	testkit.NeedDevice(t)
	for _, c := range []struct {
		name string
		req  pipeline.Request
	}{
		{"ddim", pipeline.Request{Eta: 1, NumImagesPerPrompt: 2}},
		{"pndm", pipeline.Request{NumInferenceSteps: 6}},
		{"euler", pipeline.Request{GuidanceRescale: 0.7, NumImagesPerPrompt: 2}},
		{"euler_a", pipeline.Request{GuidanceScale: 1}},
		{"dpm++2m_karras", pipeline.Request{}},
		{"lcm", pipeline.Request{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := onDevice()
			r.Scheduler, r.Eta, r.NumImagesPerPrompt, r.GuidanceScale, r.GuidanceRescale = c.name, c.req.Eta, c.req.NumImagesPerPrompt, c.req.GuidanceScale, c.req.GuidanceRescale
			r.NumInferenceSteps = max(4, c.req.NumInferenceSteps)
			want, err := openGolden(t, "sd1").Generate(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			p := openOnDevice(t, "sd1", graphs.DeviceOption{DType: "f32"})
			got, err := p.Generate(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			near(t, got, want, 2e-5)
			// Latents that a step's caller sees go on as they are.
			r.OnStepEnd = func(pipeline.Step) error { return nil }
			seen, err := p.Generate(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if hash(seen) != hash(got) {
				t.Error("another picture with OnStepEnd")
			}
		})
	}
}

// wrapped has a pipeline see its device through f.
func wrapped(f func(device.Device) device.Device) graphs.Option {
	return graphs.WithSeam(&seam.Seam{Wrap: f})
}

// outgoing counts what leaves a device.
type outgoing struct {
	device.Device
	bytes, graphs int
}

func (o *outgoing) CopyOut(s device.Stream, dst []byte, src device.Ptr) error {
	o.bytes += len(dst)
	return o.Device.CopyOut(s, dst, src)
}

func (o *outgoing) LaunchGraph(s device.Stream, g device.Graph) error {
	o.graphs++
	return o.Device.LaunchGraph(s, g)
}

// Of a step nothing leaves the device but the flags that say whether its numbers are finite, and from the second step
// on its kernels are launched as graphs.
func TestDeviceKeepsLatents(t *testing.T) {
	testkit.NeedDevice(t)
	var o outgoing
	p := openGolden(t, "sd1", graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0"}), wrapped(func(d device.Device) device.Device {
		o.Device = d
		return &o
	}))
	made := func(steps int) (bytes, launched int) {
		r := onDevice()
		r.NumInferenceSteps = steps
		o.bytes, o.graphs = 0, 0
		if _, err := p.Generate(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return o.bytes, o.graphs
	}
	made(3)
	less, few := made(3)
	made(5)
	more, many := made(5)
	const flags, times = 2 * 64 * 4, 832 // of a step: what the test is about, and the time projections, once per image
	if want := 2 * (flags + times); more-less != want {
		t.Errorf("two steps more take %d bytes more from the device, want %d", more-less, want)
	}
	if per := (many - few) / 2; per < 1 {
		t.Errorf("%d graphs are launched in 3 steps, %d in 5", few, many)
	} else {
		t.Logf("%d bytes and %d graphs a step", (more-less)/2, per)
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
