package graphs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/loader"
)

// Every scheduler takes the way of diffusers', sample by sample. The model stands in for itself: noise of a
// known seed and a tenth of its input.
func TestSchedulerTrajectories(t *testing.T) {
	var cases []struct {
		Config   json.RawMessage
		Override string
		Steps    int
		Eta      float32
	}
	golden.Manifest(t, "schedulers", &cases)
	want := golden.Load(t, "schedulers")
	seen := map[string]int{}
	for i, c := range cases {
		cfg, err := ParseSchedulerConfig("scheduler_config.json", c.Config)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewScheduler(cfg, c.Override)
		if err != nil {
			t.Fatal(err)
		}
		seen[s.Name()]++
		t.Run(fmt.Sprintf("%d %s %d steps", i, s.Name(), c.Steps), func(t *testing.T) {
			// The second run shows that nothing of the first is left.
			for range 2 {
				if err := s.SetTimesteps(c.Steps); err != nil {
					t.Fatal(err)
				}
				steps := want[fmt.Sprintf("%d.timesteps", i)].F32
				if d := golden.RelL2(s.Timesteps(), steps); !(d <= 1e-6) {
					t.Fatalf("timesteps %v, want %v", s.Timesteps(), steps)
				}
				trajectory(t, s, want[fmt.Sprintf("%d.samples", i)].F32, c.Eta)
			}
		})
	}
	for _, class := range classNames() {
		if seen[class] < 3 {
			t.Errorf("%s has %d trajectories, want 3", class, seen[class])
		}
	}
}

func trajectory(t *testing.T, s Scheduler, want []float32, eta float32) {
	const n = 24
	x := make([]float32, n)
	torchrand.New(1).Randn(x)
	for j := range x {
		x[j] *= s.InitNoiseSigma()
	}
	outputs, noise := torchrand.New(2), torchrand.New(3)
	for step := range s.Timesteps() {
		if d := golden.RelL2(x, want[step*n:][:n]); !(d <= 1e-5) {
			t.Fatalf("before step %d: relative L2 %g", step, d)
		}
		scaled := append([]float32(nil), x...)
		s.ScaleModelInput(scaled, step)
		out := make([]float32, n)
		outputs.Randn(out)
		for j := range out {
			out[j] = 0.9*out[j] + 0.1*scaled[j]
		}
		if err := s.Step(out, x, step, StepOptions{Eta: eta, Noise: noise.Randn}); err != nil {
			t.Fatal(err)
		}
	}
	if d := golden.RelL2(x, want[len(want)-n:]); !(d <= 1e-5) {
		t.Fatalf("at the end: relative L2 %g", d)
	}
}

func TestSchedulerConfigErrors(t *testing.T) {
	for _, c := range []struct{ config, want string }{
		{`{`, "not a JSON object"},
		{`{}`, "_class_name"},
		{`{"_class_name": "HeunDiscreteScheduler"}`, "HeunDiscreteScheduler"},
		{`{"_class_name": "DDIMScheduler", "num_train_timesteps": 0}`, "num_train_timesteps"},
		{`{"_class_name": "DDIMScheduler", "num_train_timesteps": 1e12}`, "num_train_timesteps"},
		{`{"_class_name": "DDIMScheduler", "beta_start": -1}`, "beta_start"},
		{`{"_class_name": "DDIMScheduler", "beta_end": "NaN"}`, "beta_end"},
		{`{"_class_name": "DDIMScheduler", "beta_schedule": "cosine"}`, "beta_schedule"},
		{`{"_class_name": "DDIMScheduler", "thresholding": true}`, "thresholding"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}`, "algorithm_type"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}`, "solver_order"},
		{`{"_class_name": "PNDMScheduler", "prediction_type": "sample"}`, "prediction_type"},
	} {
		_, err := ParseSchedulerConfig("scheduler/scheduler_config.json", []byte(c.config))
		if !errors.As(err, new(*loader.Error)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.config, err)
		}
	}
	cfg, err := ParseSchedulerConfig("f", []byte(`{"_class_name": "DDIMScheduler"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewScheduler(cfg, "heun"); !errors.As(err, new(*RequestError)) || !strings.Contains(err.Error(), "dpm++2m_karras") {
		t.Errorf("an unknown override: %v", err)
	}
	for _, name := range append(Schedulers(), classNames()...) {
		s, err := NewScheduler(cfg, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, n := range []int{0, -1, 1001} {
			if err := s.SetTimesteps(n); !errors.As(err, new(*RequestError)) {
				t.Errorf("%s with %d steps: %v", name, n, err)
			}
		}
	}
}
