package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/outfile"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// generateFlags are the flags of "euryale generate".
type generateFlags struct {
	requestFlags
	prompt, output, latents string
	threads                 int
	seed                    seed
	rescale                 float32
	checks, json, quiet     bool
	offload                 offloadFlags

	req      pipeline.Request
	outputs  outfile.Outputs
	pictures []*outfile.Output
}

func defineGenerate(fs *flagSet) runner {
	f := newGenerate(fs)
	return func(ctx context.Context, stdout, stderr io.Writer) error {
		if err := f.check(fs); err != nil {
			return err
		}
		return f.generate(ctx, stdout, stderr)
	}
}

// newGenerate registers the flags.
func newGenerate(fs *flagSet) *generateFlags {
	f := &generateFlags{seed: -1}
	f.requestFlags.register(fs)
	fs.text(&f.prompt, "p", "", "`prompt`")
	fs.value(&f.seed, "s", "`seed`, 0 or more; default: a random one")
	fs.real(&f.rescale, "guidance-rescale", "`share` of the guided prediction scaled back, 0 to 1")
	fs.topic("Output")
	fs.text(&f.output, "o", "output.png",
		"output `file`: .png, .jpg or .webp; default output.png; further ones of -batch get -2, -3, ...; - is standard output", anyFile)
	fs.text(&f.latents, "latents-out", "", "also write the final latents to a safetensors `file`", anyFile)
	fs.yes(&f.json, "json", "print a summary, or with -dry-run the plan, as JSON on standard output")
	fs.yes(&f.quiet, "quiet", "no progress")
	fs.topic("Run")
	fs.whole(&f.threads, "threads", 1, cpu.MaxThreads, "`threads`; default: one per core")
	fs.yes(&f.checks, "check-finite", "end at the first operation whose result is infinite or not a number")
	f.offload.register(fs)
	fs.text(&f.offload.planIn, "plan-in", "", "run the plan of a `file`", anyFile)
	fs.text(&f.offload.trace, "trace", "", "write when every call and copy ran, for Perfetto, to a `file`", anyFile)
	fs.yes(&f.offload.dryRun, "dry-run",
		"show the plan of the run that the other flags are for, and stop; nothing is drawn")
	return f
}

// check refuses flags that do not go together, and makes a request of the others.
func (f *generateFlags) check(fs *flagSet) (err error) {
	if !fs.given("p") {
		return fmt.Errorf("a prompt is needed: -p \"a red circle on a blue background\"")
	}
	if f.output == "" {
		return errors.New("-o is empty; it names the file to write")
	}
	if _, err := formatOf(f.output); err != nil {
		return err
	}
	f.offload.on = f.device
	if err := refuse(fs, f.offload.useless(f.json)); err != nil {
		return err
	}
	if f.req, err = f.request(fs); err != nil {
		return err
	}
	f.req.Prompt, f.req.GuidanceRescale = f.prompt, f.rescale
	if f.seed >= 0 {
		f.req.Seed = pipeline.Seed(uint64(f.seed))
	}
	return nil
}

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

// timesSummary is pipeline.Times in seconds.
type timesSummary struct {
	Load   float64   `json:"load"`
	Text   float64   `json:"text"`
	Steps  []float64 `json:"steps"`
	Decode float64   `json:"decode"`
}

func timesOf(t pipeline.Times) timesSummary {
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

func offloadOf(o *graphs.OffloadStats) *offloadSummary {
	if o == nil {
		return nil
	}
	s := &offloadSummary{Strategy: o.Strategy, PeakBytes: o.Peak, Uploaded: o.Uploaded, Hidden: o.Hidden()}
	_, perPass := o.Plan.Uploaded(o.Inventory)
	for i, n := range perPass {
		if ph := &o.Inventory.Phases[i]; ph.Component == "unet" && ph.Name == "" {
			s.PerStep = n
		}
	}
	if o.CopyTime > 0 {
		s.GBps = float64(o.Uploaded) / o.CopyTime.Seconds() / 1e9
	}
	return s
}

func (s *offloadSummary) String() string {
	return fmt.Sprintf("offload %s: %d MiB of device memory, %d MiB uploaded at %.2f GB/s, %.0f %% hidden", s.Strategy,
		(s.PeakBytes+1<<20-1)>>20, s.Uploaded>>20, s.GBps, 100*s.Hidden)
}

func (f *generateFlags) generate(ctx context.Context, stdout, stderr io.Writer) error {
	opts := []graphs.Option{graphs.WithThreads(f.threads), graphs.WithDevice(f.device)}
	if f.checks {
		opts = append(opts, graphs.WithFiniteChecks())
	}
	more, err := f.offload.options()
	if err != nil {
		return err
	}
	p, m, end, err := f.pipeline(append(opts, more...)...)
	if err != nil {
		return err
	}
	defer end()
	if f.req, err = p.Resolve(f.req); err != nil {
		return err
	}
	f.outputs.Stdout = stdout
	if f.offload.dryRun {
		f.outputs.Claim("what is printed", "-")
		return f.offload.show(ctx, stdout, p, f.req, &f.outputs, f.json)
	}
	if err := f.findOutputs(); err != nil {
		return err
	}
	if err := f.offload.beforeRun(ctx, p, f.req); err != nil {
		return err
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
	s := f.summary(m, res)
	if err := f.write(ctx, s, res); err != nil {
		return err
	}
	s.Seconds, s.PeakBytes = time.Since(start).Seconds(), peakRSS()
	if f.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	fmt.Fprintf(stderr, "%s: seed %d, %d steps of %s, %.1f s\n", strings.Join(s.Files, ", "), s.Seed, s.Steps, s.Sampler,
		s.Seconds)
	if s.Offload != nil {
		fmt.Fprintln(stderr, s.Offload)
	}
	return nil
}

// findOutputs finds out before minutes of work whether everything can be written.
func (f *generateFlags) findOutputs() error {
	if f.json {
		f.outputs.Claim("-json", "-")
	}
	f.outputs.Claim("-plan-in", f.offload.planIn)
	first, err := f.outputs.Add("-o", f.output)
	if err != nil {
		return err
	}
	f.pictures = []*outfile.Output{first}
	for i := 2; i <= f.req.NumImagesPerPrompt; i++ {
		next := first
		switch first.Kind {
		case outfile.Regular:
			ext := filepath.Ext(f.output)
			if next, err = f.outputs.Add("-batch", fmt.Sprintf("%s-%d%s", strings.TrimSuffix(f.output, ext), i,
				ext)); err != nil {
				return err
			}
		case outfile.Stream:
			return fmt.Errorf("-o %s takes one picture, not the %d of -batch", f.output, f.req.NumImagesPerPrompt)
		}
		f.pictures = append(f.pictures, next)
	}
	if f.latents != "" {
		if _, err := f.outputs.Add("-latents-out", f.latents); err != nil {
			return err
		}
	}
	return f.offload.findOutputs(&f.outputs)
}

func (f *generateFlags) summary(m *loader.Model, res *pipeline.Result) *summary {
	s := &summary{
		Model: f.model.folder, Class: m.Class(), Prompt: f.req.Prompt, Negative: f.req.NegativePrompt, Seed: res.Seed,
		Sampler: cmp.Or(f.req.Scheduler, res.Scheduler), Steps: f.req.NumInferenceSteps, Width: f.req.Width, Height: f.req.Height,
		Guidance: f.req.GuidanceScale, Warnings: res.Warnings, Times: timesOf(res.Times), Offload: offloadOf(res.Offload),
	}
	if s.Model == "" {
		s.Model = "embedded"
	}
	return s
}

func (f *generateFlags) write(ctx context.Context, s *summary, res *pipeline.Result) error {
	format, err := formatOf(f.output)
	if err != nil {
		return err
	}
	for i, img := range res.Images {
		if err := f.pictures[i].Write(ctx, func(w io.Writer) error {
			return format.encode(w, img,
				parameters(s))
		}); err != nil {
			return err
		}
		s.Files = append(s.Files, f.pictures[i].Name)
	}
	if f.latents != "" {
		s.Latents = f.latents
		if err := f.outputs.Write(ctx, "-latents-out", func(w io.Writer) error {
			return loader.WriteSafetensors(w, map[string]loader.Tensor{
				"latents": {Shape: res.Latents.Shape(), F32: res.Latents.Float32s()},
			})
		}); err != nil {
			return err
		}
	}
	return f.offload.afterRun(ctx, res.Offload)
}
