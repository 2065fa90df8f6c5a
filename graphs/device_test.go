package graphs_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
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
	vm, err := graphs.NewVM(G.NewGraph(), graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0"}))
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

// near compares latents.
func near(t *testing.T, got, want *graphs.Result, most float64) {
	t.Helper()
	if d := relL2(got.Latents.Float32s(), want.Latents.Float32s()); !(d <= most) {
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
	needDevice(t)
	for _, c := range []struct {
		name string
		req  graphs.Request
	}{
		{"ddim", graphs.Request{Eta: 1, NumImagesPerPrompt: 2}},
		{"pndm", graphs.Request{NumInferenceSteps: 6}},
		{"euler", graphs.Request{GuidanceRescale: 0.7, NumImagesPerPrompt: 2}},
		{"euler_a", graphs.Request{GuidanceScale: 1}},
		{"dpm++2m_karras", graphs.Request{}},
		{"lcm", graphs.Request{}},
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
			r.OnStepEnd = func(graphs.Step) error { return nil }
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

// A device is measured for planning; what it says of an emulated one means nothing but that the way is right.
func TestDeviceProfile(t *testing.T) {
	needDevice(t)
	p, err := graphs.MeasureSmall(graphs.DeviceOption{Name: "cuda:0"})
	if err != nil {
		t.Fatal(err)
	}
	if !(p.FLOPs > 0 && p.Memory > 0 && p.Link > 0) || p.Name == "" {
		t.Errorf("%+v", p)
	}
	if _, err := graphs.MeasureProfile(graphs.DeviceOption{}); err == nil {
		t.Error("the CPU is measured as a device")
	}
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
	needDevice(t)
	var o outgoing
	p := openGolden(t, "sd1", graphs.WithDevice(graphs.Wrapped(graphs.DeviceOption{Name: "cuda:0"}, func(d device.Device) device.Device {
		o.Device = d
		return &o
	})))
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

// onEach runs a test on the CPU and on a GPU.
func onEach(t *testing.T, f func(t *testing.T, d graphs.DeviceOption)) {
	t.Run("cpu", func(t *testing.T) { f(t, graphs.DeviceOption{}) })
	t.Run("cuda", func(t *testing.T) {
		needDevice(t)
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
		m, w := tinyUNet(t)
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

// tinyUNet is the embedded model, and its UNet's weights.
func tinyUNet(t *testing.T) (*loader.Model, *loader.Weights) {
	t.Helper()
	m, err := loader.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	c, err := m.Component("unet")
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	return m, w
}
