// Command ownscheduler draws with a scheduler of the program's own: DDIM's formula over timesteps that are spaced by
// a cosine, close together at both ends. A step is a few numbers, so it runs in the pipeline's graph, offloaded or on
// a GPU as any other.
package main

import (
	"context"
	"fmt"
	"image/color"
	"log"
	"math"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/sched"
)

// cosine is a sched.Scheduler for the embedded model: 1000 timesteps, betas linear from 0.0001 to 0.02, v_prediction.
type cosine struct{ timesteps []float32 }

func (c *cosine) Name() string            { return "cosine spacing" }
func (c *cosine) Timesteps() []float32    { return c.timesteps }
func (c *cosine) InitNoiseSigma() float32 { return 1 }
func (c *cosine) Samples() int            { return 1 }

func (c *cosine) SetTimesteps(n int) error {
	if n < 1 || n > 500 {
		return &sched.Error{Field: "num_inference_steps", Problem: fmt.Sprintf("is %d, want 1 to 500", n)}
	}
	c.timesteps = nil
	for i := range n {
		c.timesteps = append(c.timesteps, float32(math.Round(999*(1+math.Cos(math.Pi*float64(i)/float64(n)))/2)))
	}
	return nil
}

// Step predicts the clean sample and the noise, and mixes them again for the next timestep.
func (c *cosine) Step(i int, _ float32) sched.Step {
	now, next := signal(c.timesteps[i]), 1.0
	if i+1 < len(c.timesteps) {
		next = signal(c.timesteps[i+1])
	}
	a, b := math.Sqrt(now), math.Sqrt(1-now)
	row := sched.Row{Clean: math.Sqrt(next), Output: math.Sqrt(1-next) * a}
	row.State[0] = math.Sqrt(1-next) * b
	return sched.Step{InputScale: 1, Clip: math.Inf(1), Clean: [3]float64{a, -b, 1}, Rows: []sched.Row{row}}
}

// signal is the share of signal in a sample at a timestep, squared.
func signal(t float32) float64 {
	share := 1.0
	for k := range int(t) + 1 {
		share *= 1 - (0.0001 + (0.02-0.0001)*float64(k)/999)
	}
	return share
}

func main() {
	m, err := loader.Tiny()
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	for _, opts := range [][]graphs.Option{nil, {graphs.WithOffload(offload.Auto(3 << 20))}} {
		p, err := pipeline.NewTextToImage(m, opts...)
		if err != nil {
			log.Fatal(err)
		}
		res, err := p.Generate(context.Background(), pipeline.Request{
			Prompt: "a red circle on a blue background", NumInferenceSteps: 12, Seed: pipeline.Seed(1), CustomScheduler: &cosine{},
		})
		if err != nil {
			log.Fatal(err)
		}
		img := res.Images[0]
		fmt.Printf("%s, %d steps: %s in the middle, %s in the corner\n", res.Scheduler, res.Steps, name(img.At(32, 32)), name(img.At(2, 2)))
		if err := p.Close(); err != nil {
			log.Fatal(err)
		}
	}
}

// name is that of a colour that is mostly red, green or blue.
func name(c color.Color) string {
	r, g, b, _ := c.RGBA()
	switch {
	case r > 2*g && r > 2*b:
		return "red"
	case g > 2*r && g > 2*b:
		return "green"
	case b > 2*r && b > 2*g:
		return "blue"
	}
	return "something else"
}
