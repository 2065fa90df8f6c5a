package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/sched"
)

// requestFlags say which model draws what, and on which device, as far as a plan depends on it. A plan is thus for
// the picture that the same flags of "generate" make. The names are those of stable-diffusion.cpp where it has them.
type requestFlags struct {
	model                 modelFlags
	sampler               string
	device                graphs.DeviceOption
	guidance, eta         float32
	width, height         int
	steps, batch, skipped int
	timesteps             []int
	sigmas                []float64
	negative              string
	tiling                bool
}

func (f *requestFlags) register(fs *flagSet) {
	fs.topic("Model and device")
	f.model.register(fs)
	fs.text(&f.device.Name, "device", "", "`device` that computes: cpu, the default, or cuda:0, ...", "cpu", "cuda:0")
	fs.text(&f.device.DType, "dtype", "",
		"`type` that a CUDA device computes in, default f16; plan takes it without a device, too", "f16", "bf16", "f32")
	fs.topic("Picture")
	fs.text(&f.negative, "n", "", "negative `prompt`, for guidance")
	fs.whole(&f.width, "W", 1, 0, "width in `pixels`; default: the model's")
	fs.whole(&f.height, "H", 1, 0, "height in `pixels`; default: the model's")
	fs.whole(&f.steps, "steps", 1, 0, "denoising `steps`; default 50")
	fs.wholes(&f.timesteps, "timesteps", "`list` of timesteps in place of the scheduler's own; for euler, dpm++2m, lcm")
	fs.reals(&f.sigmas, "sigmas", "`list` of sigmas in their place, one for each step, then as a rule 0; for euler")
	fs.real(&f.guidance, "cfg-scale",
		"guidance `scale`; 1 switches guidance off; default 7.5, SDXL 5, the embedded model 3")
	fs.text(&f.sampler, "sampler", "", "`scheduler`: "+strings.Join(sched.Names(), ", ")+"; default: the model's",
		sched.Names()...)
	fs.real(&f.eta, "eta", "`share` of noise that DDIM adds, 0 to 1")
	fs.whole(&f.skipped, "clip-skip", 0, 0, "`layers` of the text encoder left out, as diffusers counts them")
	fs.whole(&f.batch, "batch", 1, 0, "`pictures` to make; default 1")
	fs.yes(&f.tiling, "vae-tiling", "decode large pictures in tiles: less memory")
}

// request is what the flags ask for.
func (f *requestFlags) request(fs *flagSet) (pipeline.Request, error) {
	r := pipeline.Request{
		NegativePrompt: f.negative, Width: f.width, Height: f.height, NumInferenceSteps: f.steps, GuidanceScale: f.guidance,
		NumImagesPerPrompt: f.batch, ClipSkip: f.skipped, Eta: f.eta, Scheduler: f.sampler,
		Timesteps: f.timesteps, Sigmas: f.sigmas,
	}
	if fs.given("cfg-scale") && f.guidance == 0 {
		r.GuidanceScale = 1 // no guidance, as in diffusers; in a Request zero means the default
	}
	if fs.given("n") && fs.given("cfg-scale") && f.guidance <= 1 {
		return r, fmt.Errorf("-n does nothing without guidance, which -cfg-scale %g switches off", f.guidance)
	}
	return r, nil
}

// pipeline opens the model and makes a pipeline of it. close ends both.
func (f *requestFlags) pipeline(opts ...graphs.Option) (p *pipeline.TextToImage, m *loader.Model, close func() error,
	err error) {
	if m, err = f.model.open(); err != nil {
		return nil, nil, nil, err
	}
	if f.tiling {
		opts = append(opts, pipeline.WithVAETiling())
	}
	if p, err = pipeline.NewTextToImage(m, opts...); err != nil {
		m.Close()
		return nil, nil, nil, err
	}
	return p, m, func() error { return errors.Join(p.Close(), m.Close()) }, nil
}
