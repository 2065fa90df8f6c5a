package pipeline_test

import (
	"image"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/sched"
)

// A loop of the program's own, made of a job's parts and the image encoder, is image-to-image as diffusers' pipelines do it,
// with every scheduler, under a plan, too.
func TestImageToImageOfParts(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 24, 16))
	for i := range 16 * 24 * 3 { // as in make_schedulers.py
		img.Pix[i/3*4+i%3], img.Pix[i/3*4+3] = uint8(i*7), 255
	}
	want := golden.Load(t, "img2img")
	if len(want) != 10 {
		t.Fatalf("%d goldens", len(want))
	}
	for name, latents := range want {
		folder, scheduler, _ := strings.Cut(name, ".")
		for _, s := range []offload.Strategy{nil, offload.Sequential()} {
			p := openGolden(t, folder)
			if err := p.SetOffload(s); err != nil {
				t.Fatal(err)
			}
			got, err := fromImage(t, p, img, 0.6, pipeline.Request{Prompt: "a red circle", Height: 16, Width: 24,
				NumInferenceSteps: 7, GuidanceScale: 5, Scheduler: scheduler, Seed: pipeline.Seed(5)})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d := golden.RelL2(got, latents.F32); !(d <= 1e-4) {
				t.Errorf("%s: relative L2 %g", name, d)
			}
		}
	}
}

func fromImage(t *testing.T, p *pipeline.TextToImage, img image.Image, strength float64, r pipeline.Request) ([]float32, error) {
	t.Helper()
	ctx := t.Context()
	first, err := sched.FirstStep(r.NumInferenceSteps, strength)
	if err != nil {
		return nil, err
	}
	job, err := p.NewJobFrom(r, first)
	if err != nil {
		return nil, err
	}
	encoder, err := p.NewImageEncoder(r.Height, r.Width)
	if err != nil {
		return nil, err
	}
	run, err := job.Begin(ctx, encoder.Stage(1))
	if err != nil {
		return nil, err
	}
	defer run.End()
	latents, err := encoder.Encode(ctx, run, img, job.Seed())
	if err != nil {
		return nil, err
	}
	noise := make([]float32, len(latents))
	job.Seed().Randn(noise)
	signal, spread := job.Scheduler().(sched.Mixer).Mix(first)
	for i := range latents {
		latents[i] = float32(signal)*latents[i] + float32(spread)*noise[i]
	}
	cond, err := job.EncodePrompt(ctx, run)
	if err != nil {
		return nil, err
	}
	if err := job.Prepare(ctx, run, cond); err != nil {
		return nil, err
	}
	job.SetLatents(latents)
	if err := job.Step(ctx, run, first-1); err == nil {
		t.Error("a step before the first is taken")
	}
	for i := first; i < job.Steps(); i++ {
		if err := job.Step(ctx, run, i); err != nil {
			return nil, err
		}
	}
	return job.Latents(), nil
}
