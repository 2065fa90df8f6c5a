package pipeline_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// As in make_schedulers.py.
var (
	listedTimesteps = []int{999, 850, 736, 645, 545, 455, 343, 233, 124, 24}
	listedSigmas    = []float64{14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0}
)

// Listed timesteps and sigmas give what they give with diffusers' pipeline, under a plan, too.
func TestStepsOfARequestsList(t *testing.T) {
	p := openGolden(t, "sd1")
	want := golden.Load(t, "drawn")
	for _, s := range []offload.Strategy{nil, offload.Sequential()} {
		if err := p.SetOffload(s); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]pipeline.Request{
			"timesteps.EulerDiscreteScheduler":      {Timesteps: listedTimesteps},
			"timesteps.DPMSolverMultistepScheduler": {Timesteps: listedTimesteps},
			"timesteps.LCMScheduler":                {Timesteps: listedTimesteps},
			"sigmas.EulerDiscreteScheduler":         {Sigmas: listedSigmas},
		} {
			_, r.Scheduler, _ = strings.Cut(name, ".")
			r.Prompt, r.Height, r.Width, r.Seed = "a red circle", 16, 16, pipeline.Seed(5)
			// What is resolved is a request, too.
			r, err := p.Resolve(r)
			if err != nil || r.NumInferenceSteps != len(listedTimesteps) {
				t.Fatalf("%s: %d steps, %v", name, r.NumInferenceSteps, err)
			}
			var seen []float32
			r.OnProgress = func(s pipeline.Step) error { seen = append(seen, s.Timestep); return nil }
			res, err := p.Generate(t.Context(), r)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d := golden.RelL2(res.Latents.Float32s(), want[name].F32); !(d <= 1e-4) || res.Steps != len(listedTimesteps) {
				t.Errorf("%s: relative L2 %g in %d steps", name, d, res.Steps)
			}
			same := func(a float32, b int) bool { return a == float32(b) }
			if r.Timesteps != nil && !slices.EqualFunc(seen, listedTimesteps, same) {
				t.Errorf("%s: steps at %v", name, seen)
			}
		}
	}
}

func TestListsOfARequestThatAreRefused(t *testing.T) {
	p, own := openGolden(t, "sd1"), ownScheduler{samples: 1, rows: 1}
	for want, r := range map[string]pipeline.Request{
		"sigmas cannot be given together with timesteps":           {Timesteps: listedTimesteps, Sigmas: listedSigmas},
		"num_inference_steps is 9, but 10 steps are listed":        {NumInferenceSteps: 9, Timesteps: listedTimesteps},
		"num_inference_steps is 11, but 10 steps are listed":       {NumInferenceSteps: 11, Sigmas: listedSigmas, Scheduler: "euler"},
		"timesteps is an empty list":                               {Timesteps: []int{}, Scheduler: "euler"},
		"sigmas is a list of 1":                                    {Sigmas: []float64{1}, Scheduler: "euler"},
		"num_inference_steps is 10001, want 1 to 10000, the limit": {Timesteps: make([]int, 10001), Scheduler: "euler"},
		"timesteps cannot be given to PNDMScheduler":               {Timesteps: listedTimesteps},
		"timesteps cannot be given to DDIMScheduler":               {Timesteps: listedTimesteps, Scheduler: "ddim"},
		"sigmas cannot be given to DPMSolverMultistepScheduler":    {Sigmas: listedSigmas, Scheduler: "dpm++2m"},
		"cannot be given to a scheduler with use_karras_sigmas":    {Timesteps: listedTimesteps, Scheduler: "dpm++2m_karras"},
		"timesteps begins with 1000":                               {Timesteps: []int{1000, 9}, Scheduler: "lcm"},
		"timesteps cannot be given to own, which has":              {Timesteps: listedTimesteps, CustomScheduler: own},
	} {
		for name, run := range map[string]func() error{
			"generate": func() error { _, err := p.Generate(t.Context(), r); return err },
			"plan":     func() error { _, err := p.Inventory(r); return err },
		} {
			err := run()
			if e := new(pipeline.RequestError); !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
	}
}
