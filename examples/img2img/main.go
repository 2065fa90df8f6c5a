// Command img2img is a loop of the program's own, made of a pipeline's parts: it draws a picture, encodes it, adds noise up to
// a step in the middle of the schedule, and goes on from there with another prompt. All of that is one run under one plan.
package main

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"log"
	"os"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/scenes"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/sched"
)

func main() {
	m, err := loader.Tiny()
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m, graphs.WithOffload(offload.Auto(3<<20)))
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()

	res, err := p.Generate(context.Background(), pipeline.Request{
		Prompt: "a red circle on a blue background", NumInferenceSteps: 20, Seed: pipeline.Seed(1),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("drawn:", scenes.Read(res.Images[0]))

	for _, strength := range []float64{0.2, 0.95} {
		img, stats, err := change(p, res.Images[0], strength, pipeline.Request{
			Prompt: "a yellow square on a green background", NumInferenceSteps: 20, Seed: pipeline.Seed(2),
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("changed with strength %.2f: %v; peak %v\n", strength, scenes.Read(img), stats.Peak == stats.Plan.Peak)
		if len(os.Args) > 1 {
			if err := write(fmt.Sprintf("%s-%.2f.png", os.Args[1], strength), img); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// change is image-to-image.
func change(p *pipeline.TextToImage, from image.Image, strength float64, r pipeline.Request) (image.Image, *graphs.OffloadStats, error) {
	ctx := context.Background()
	first, err := sched.FirstStep(r.NumInferenceSteps, strength)
	if err != nil {
		return nil, nil, err
	}
	job, err := p.NewJobFrom(r, first)
	if err != nil {
		return nil, nil, err
	}
	encoder, err := p.NewImageEncoder(from.Bounds().Dy(), from.Bounds().Dx())
	if err != nil {
		return nil, nil, err
	}
	run, err := job.Begin(ctx, encoder.Stage(1)) // one plan for the encoder and all that follows
	if err != nil {
		return nil, nil, err
	}
	img, err := steps(ctx, run, job, encoder, from)
	stats, stopped := run.End()
	if err == nil {
		err = stopped
	}
	return img, stats, err
}

// steps runs the parts, from the picture to the picture.
func steps(ctx context.Context, run *graphs.Run, job *pipeline.Job, encoder *pipeline.ImageEncoder, from image.Image) (image.Image, error) {
	latents, err := encoder.Encode(ctx, run, from, job.Seed())
	if err != nil {
		return nil, err
	}
	noise := make([]float32, len(latents))
	job.Seed().Randn(noise)
	signal, spread := job.Scheduler().(sched.Mixer).Mix(job.First())
	for i := range latents {
		latents[i] = float32(signal)*latents[i] + float32(spread)*noise[i]
	}

	conditioning, err := job.EncodePrompt(ctx, run)
	if err != nil {
		return nil, err
	}
	if err := job.Prepare(ctx, run, conditioning); err != nil {
		return nil, err
	}
	job.SetLatents(latents)
	for i := job.First(); i < job.Steps(); i++ {
		if err := job.Step(ctx, run, i); err != nil {
			return nil, err
		}
	}
	images, err := job.Decode(ctx, run, job.Latents())
	if err != nil {
		return nil, err
	}
	return images[0], nil
}

func write(name string, img image.Image) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := png.Encode(f, img); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
