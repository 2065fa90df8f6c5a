package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
)

// generateFlags are the flags of "euryale generate", named as those of stable-diffusion.cpp where it has them.
type generateFlags struct {
	model, output, latents, sampler string
	threads                         int
	device                          graphs.DeviceOption
	seed                            int64
	guidance, rescale, eta          float64
	tiling, checks, json, quiet     bool
	req                             graphs.Request
	offload                         offloadFlags
}

func (f *generateFlags) parse(args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet("euryale generate", flag.ContinueOnError)
	fs.StringVar(&f.model, "m", "", "model `folder` in the diffusers layout; default: the embedded model")
	fs.StringVar(&f.req.Prompt, "p", "", "`prompt`")
	fs.StringVar(&f.req.NegativePrompt, "n", "", "negative `prompt`")
	fs.IntVar(&f.req.Width, "W", 0, "width in `pixels`; default: the model's")
	fs.IntVar(&f.req.Height, "H", 0, "height in `pixels`; default: the model's")
	fs.IntVar(&f.req.NumInferenceSteps, "steps", 0, "denoising steps; default 50")
	fs.Float64Var(&f.guidance, "cfg-scale", 0, "guidance `scale`; 1 switches guidance off; default 7.5, SDXL 5, the embedded model 3")
	fs.Float64Var(&f.rescale, "guidance-rescale", 0, "`share` of the guided prediction scaled back, 0 to 1")
	fs.Float64Var(&f.eta, "eta", 0, "noise added by DDIM, 0 to 1")
	fs.IntVar(&f.req.ClipSkip, "clip-skip", 0, "`layers` of the text encoder left out, as diffusers counts them")
	fs.Int64Var(&f.seed, "s", -1, "`seed`; negative: a random one")
	fs.StringVar(&f.output, "o", "output.png", "output `file`; with -batch further ones get -2, -3, ...")
	fs.IntVar(&f.req.NumImagesPerPrompt, "batch", 1, "`pictures` to make")
	fs.StringVar(&f.sampler, "sampler", "", "`scheduler`: "+strings.Join(graphs.Schedulers(), ", ")+"; default: the model's")
	fs.IntVar(&f.threads, "threads", 0, "`threads`; default: one per core")
	fs.StringVar(&f.device.Name, "device", "cpu", "`device` that computes: cpu, cuda:0, ...")
	fs.StringVar(&f.device.DType, "dtype", "", "`type` a CUDA device computes in: f16, bf16, f32; default f16")
	fs.BoolVar(&f.tiling, "vae-tiling", false, "decode large pictures in tiles: less memory")
	fs.BoolVar(&f.checks, "check-finite", false, "end at the first operation whose result is infinite or not a number")
	fs.StringVar(&f.latents, "latents-out", "", "also write the final latents to a safetensors `file`")
	fs.BoolVar(&f.json, "json", false, "print a summary as JSON on standard output")
	fs.BoolVar(&f.quiet, "quiet", false, "no progress")
	f.offload.register(fs)
	fs.StringVar(&f.offload.trace, "trace", "", "write when every call and copy ran, for Perfetto, to a `file`")
	fs.BoolVar(&f.offload.dryRun, "dry-run", false, "show the plan and stop")
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	given := map[string]bool{}
	fs.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	for _, name := range []string{"W", "H", "steps", "batch"} {
		// In a Request zero means the default; on the command line someone wrote it.
		if given[name] && fs.Lookup(name).Value.String() == "0" {
			return fmt.Errorf("-%s is 0", name)
		}
	}
	if !given["p"] {
		return fmt.Errorf("a prompt is needed: -p \"a red circle on a blue background\"")
	}
	if f.threads < 0 {
		return fmt.Errorf("-threads is %d, want 1 or more", f.threads)
	}
	f.req.GuidanceScale, f.req.GuidanceRescale, f.req.Eta = float32(f.guidance), float32(f.rescale), float32(f.eta)
	if given["cfg-scale"] && f.guidance == 0 {
		f.req.GuidanceScale = 1 // no guidance, as in diffusers
	}
	if f.output == "" {
		return errors.New("-o is empty; it names the file to write")
	}
	if f.model == "" && !given["cfg-scale"] {
		f.req.GuidanceScale = embeddedGuidance
	}
	if f.seed >= 0 {
		f.req.Seed = graphs.Seed(uint64(f.seed))
	}
	return nil
}

// embeddedGuidance is the scale at which the embedded model's pictures are read; loader/tiny/check.py --guidance reads
// them at others.
const embeddedGuidance = 3

// summary is what -json prints.
type summary struct {
	Files     []string `json:"files"`
	Latents   string   `json:"latents,omitempty"`
	Model     string   `json:"model"`
	Class     string   `json:"class"`
	Prompt    string   `json:"prompt"`
	Negative  string   `json:"negative_prompt"`
	Seed      uint64   `json:"seed"`
	Sampler   string   `json:"sampler"`
	Steps     int      `json:"steps"`
	Width     int      `json:"width"`
	Height    int      `json:"height"`
	Guidance  float32  `json:"cfg_scale"`
	Seconds   float64  `json:"seconds"`
	PeakBytes int64    `json:"peak_rss_bytes,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`

	Times   timesSummary    `json:"times"`
	Offload *offloadSummary `json:"offload,omitempty"`
}

// timesSummary is graphs.Times in seconds.
type timesSummary struct {
	Load   float64   `json:"load"`
	Text   float64   `json:"text"`
	Steps  []float64 `json:"steps"`
	Decode float64   `json:"decode"`
}

func timesOf(t graphs.Times) timesSummary {
	s := timesSummary{Load: t.Load.Seconds(), Text: t.Text.Seconds(), Decode: t.Decode.Seconds()}
	for _, step := range t.Steps {
		s.Steps = append(s.Steps, step.Seconds())
	}
	return s
}

// offloadSummary is what offloading took.
type offloadSummary struct {
	Strategy  string  `json:"strategy"`
	PeakBytes int     `json:"peak_device_bytes"`
	Uploaded  int64   `json:"uploaded_bytes"`
	PerStep   int     `json:"uploaded_bytes_per_step"` // by the plan
	GBps      float64 `json:"upload_gb_per_s"`
	Hidden    float64 `json:"hidden"`
}

func (s *offloadSummary) String() string {
	return fmt.Sprintf("offload %s: %d MiB of device memory, %d MiB uploaded at %.2f GB/s, %.0f %% hidden", s.Strategy, (s.PeakBytes+1<<20-1)>>20, s.Uploaded>>20, s.GBps, 100*s.Hidden)
}

func generate(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var f generateFlags
	if err := f.parse(args, stderr); err != nil {
		return err
	}
	for _, file := range []string{f.output, f.latents, f.offload.planOut} {
		if err := writable(file); err != nil {
			return err
		}
	}
	m, err := open(f.model)
	if err != nil {
		return err
	}
	defer m.Close()
	opts := []graphs.Option{graphs.WithThreads(f.threads), graphs.WithScheduler(f.sampler), graphs.WithDevice(f.device)}
	if f.tiling {
		opts = append(opts, graphs.WithVAETiling())
	}
	if f.checks {
		opts = append(opts, graphs.WithFiniteChecks())
	}
	f.offload.on = f.device
	more, err := f.offload.options()
	if err != nil {
		return err
	}
	p, err := graphs.NewTextToImage(m, append(opts, more...)...)
	if err != nil {
		return err
	}
	defer p.Close()
	f.req, err = p.Resolve(f.req)
	if err != nil {
		return err
	}

	if err := f.offload.check(p, f.req); err != nil {
		return err
	}
	if f.offload.dryRun {
		return f.offload.show(stdout, p, f.req)
	}
	bar := newProgress(stderr, f.quiet)
	f.req.OnProgress = bar.step
	start := time.Now()
	res, err := p.Generate(ctx, f.req)
	bar.end()
	if err != nil {
		return err
	}
	for _, w := range res.Warnings {
		fmt.Fprintln(stderr, "warning:", w)
	}
	s := summary{
		Model: f.model, Class: m.Class(), Prompt: f.req.Prompt, Negative: f.req.NegativePrompt, Seed: res.Seed,
		Sampler: cmp.Or(f.req.Scheduler, res.Scheduler), Steps: f.req.NumInferenceSteps, Width: f.req.Width, Height: f.req.Height,
		Guidance: f.req.GuidanceScale, Warnings: res.Warnings, Times: timesOf(res.Times),
	}
	if o := res.Offload; o != nil {
		s.Offload = &offloadSummary{Strategy: o.Strategy, PeakBytes: o.Peak, Uploaded: o.Uploaded, Hidden: o.Hidden()}
		_, perPass := o.Plan.Uploaded(o.Inventory)
		for i, n := range perPass {
			if ph := &o.Inventory.Phases[i]; ph.Component == "unet" && ph.Name == "" {
				s.Offload.PerStep = n
			}
		}
		if o.CopyTime > 0 {
			s.Offload.GBps = float64(o.Uploaded) / o.CopyTime.Seconds() / 1e9
		}
	}
	if s.Model == "" {
		s.Model = "embedded"
	}
	if err := write(&f, &s, res); err != nil {
		return err
	}
	if err := f.offload.writeTrace(res.Offload); err != nil {
		return err
	}
	s.Seconds = time.Since(start).Seconds()
	s.PeakBytes = peakRSS()
	if f.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	fmt.Fprintf(stderr, "%s: seed %d, %d steps of %s, %.1f s\n", strings.Join(s.Files, ", "), s.Seed, s.Steps, s.Sampler, s.Seconds)
	if s.Offload != nil {
		fmt.Fprintln(stderr, s.Offload)
	}
	return nil
}

func write(f *generateFlags, s *summary, res *graphs.Result) error {
	for i, img := range res.Images {
		name := f.output
		if i > 0 {
			ext := filepath.Ext(name)
			name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), i+1, ext)
		}
		if err := replace(name, func(w io.Writer) error { return encodePNG(w, img, parameters(s)) }); err != nil {
			return err
		}
		s.Files = append(s.Files, name)
	}
	if f.latents == "" {
		return nil
	}
	s.Latents = f.latents
	return replace(f.latents, func(w io.Writer) error {
		return loader.WriteSafetensors(w, map[string]loader.Tensor{
			"latents": {Shape: res.Latents.Shape(), F32: res.Latents.Float32s()},
		})
	})
}
