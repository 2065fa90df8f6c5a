package sched

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/loader"
)

// schedulerCase is a line of schedulers.json.
type schedulerCase struct {
	Config                    string // with Python's literals
	Pipeline, Class, Override string
	Steps                     int
	Eta                       float32
}

func (c schedulerCase) make(t *testing.T) *Sampler {
	t.Helper()
	s, err := New(PipelineConfig(c.Pipeline, c.Class, "scheduler_config.json", []byte(c.Config)), c.Override)
	if err != nil {
		t.Fatal(err)
	}
	return NewSampler(s)
}

// Every scheduler takes the way of diffusers', sample by sample, made from any config as diffusers makes it. The model
// stands in for itself: noise of a known seed and a tenth of its input.
func TestSchedulerTrajectories(t *testing.T) {
	var cases []schedulerCase
	golden.Manifest(t, "schedulers", &cases)
	want := golden.Load(t, "schedulers")
	seen := map[string]int{}
	for i, c := range cases {
		s := c.make(t)
		seen[s.Name()]++
		t.Run(fmt.Sprintf("%d %s %d steps", i, s.Name(), c.Steps), func(t *testing.T) {
			// The second run shows that nothing of the first is left.
			for range 2 {
				if err := s.SetTimesteps(c.Steps); err != nil {
					t.Fatal(err)
				}
				steps := want[fmt.Sprintf("%d.timesteps", i)].F32
				if d := golden.RelL2(s.Timesteps(), steps); !(d <= 1e-6) {
					t.Fatalf("timesteps %v, want %v; config %s", s.Timesteps(), steps, c.Config)
				}
				trajectory(t, s, want[fmt.Sprintf("%d.samples", i)].F32, want[fmt.Sprintf("%d.next", i)].F32, c.Eta)
			}
		})
	}
	for _, class := range Classes() {
		if seen[class] < 4 {
			t.Errorf("%s has %d trajectories, want 4", class, seen[class])
		}
	}
}

// trajectory compares samples [steps+1 n], and what the generator of the steps' noise gives after them, which shows in
// how many steps it was drawn.
func trajectory(t *testing.T, s *Sampler, want, next []float32, eta float32) {
	t.Helper()
	n := len(next)
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
		if err := s.Take(out, x, step, Options{Eta: eta, Noise: noise.Randn}); err != nil {
			t.Fatal(err)
		}
	}
	if d := golden.RelL2(x, want[len(want)-n:]); !(d <= 1e-5) {
		t.Fatalf("at the end: relative L2 %g", d)
	}
	noise.Randn(x)
	if !slices.Equal(x, next) {
		t.Error("noise is not drawn in the steps in which diffusers draws it")
	}
}

// Every number of steps from 1 to 1000 has diffusers' timesteps, or is refused where diffusers fails or gives no
// numbers.
func TestEveryNumberOfSteps(t *testing.T) {
	var cases []schedulerCase
	golden.Manifest(t, "timesteps", &cases)
	want := readCRCs(t, len(cases)*1000)
	refused := 0
	for i, c := range cases {
		s := c.make(t)
		for n := 1; n <= 1000; n++ {
			err, crc := s.SetTimesteps(n), uint32(0)
			if err == nil {
				raw, _ := binary.Append(nil, binary.LittleEndian, s.Timesteps())
				crc = crc32.ChecksumIEEE(raw)
			} else if refused++; !errors.As(err, new(*Error)) {
				t.Errorf("%d steps: error %v of type %T", n, err, err)
			}
			if crc != want[i*1000+n-1] {
				t.Errorf("%s with %d steps: %v %v; diffusers has others, or fails: %t", c.Config, n, s.Timesteps(), err, want[i*1000+n-1] == 0)
				break
			}
		}
	}
	t.Logf("of %d schedules %d are refused", len(want), refused)
	if len(cases) < 30 {
		t.Errorf("%d cases, want 30", len(cases))
	}
}

// readCRCs reads timesteps.bin.gz.
func readCRCs(t *testing.T, n int) []uint32 {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(golden.Dir(), "timesteps.bin.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err == nil {
		raw, err = io.ReadAll(z)
	}
	if err != nil || len(raw) != 4*n {
		t.Fatalf("%d bytes, want %d: %v", len(raw), 4*n, err)
	}
	crcs := make([]uint32, n)
	binary.Decode(raw, binary.LittleEndian, crcs)
	return crcs
}

// without are keys that mean nothing to a class, or nothing as long as another is off that is refused when it is on.
var without = map[string][]string{
	"DDIMScheduler":               {"dynamic_thresholding_ratio", "sample_max_value"},
	"DPMSolverMultistepScheduler": {"dynamic_thresholding_ratio", "sample_max_value", "flow_shift"},
	"LCMScheduler":                {"dynamic_thresholding_ratio", "sample_max_value", "timestep_spacing", "steps_offset"},
}

// A class takes the keys that diffusers' constructor takes, an absent key means its default, and every key has an
// effect or is checked.
func TestSchedulerKeys(t *testing.T) {
	var classes []struct{ Class, Defaults string }
	golden.Manifest(t, "scheduler_keys", &classes)
	if len(classes) != len(schedulerClasses) {
		t.Errorf("%d classes, want %d", len(classes), len(schedulerClasses))
	}
	for _, c := range classes {
		kind := schedulerClasses[c.Class]
		made := func(config string) Scheduler {
			t.Helper()
			m, err := New(PipelineConfig("", c.Class, "f", []byte(config)), "")
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		if !reflect.DeepEqual(made("{}"), made(c.Defaults)) {
			t.Errorf("%s: %+v, with the defaults of diffusers %+v", c.Class, made("{}"), made(c.Defaults))
		}
		cfg := PipelineConfig("", c.Class, "f", []byte(c.Defaults))
		var names map[string]any
		defaults := strings.NewReplacer("-Infinity", "0").Replace(c.Defaults)
		if err := json.Unmarshal([]byte(defaults), &names); err != nil {
			t.Fatal(err)
		}
		keys := slices.Sorted(maps.Keys(names))
		ours := slices.DeleteFunc(kind.keys(), func(k string) bool {
			return c.Class == "DPMSolverMultistepScheduler" && strings.HasPrefix(k, "sigma_m") // see schedulerClasses
		})
		if slices.Sort(ours); !slices.Equal(ours, keys) {
			t.Errorf("%s takes %v, want %v", c.Class, ours, keys)
		}
		// Some keys are only read when another says so.
		f := cfg.fields(kind, true)
		f.Set("timestep_spacing", `"leading"`)
		f.Set("use_karras_sigmas", "true")
		f.Set("clip_sample", "true")
		f.Set("sigma_min", "0.1")
		f.Set("sigma_max", "9")
		f.Keep(kind.keys())
		kind.make(f)
		if unread := f.Unread(); !slices.Equal(unread, slices.Sorted(slices.Values(without[c.Class]))) {
			t.Errorf("%s never looks at %v", c.Class, unread)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ config, want string }{
		{`{`, "not a JSON object"},
		{`null`, "not a JSON object"},
		{`{}`, "_class_name"},
		{`{"_class_name": "HeunDiscreteScheduler"}`, "HeunDiscreteScheduler"},
		{`{"_class_name": "DDIMScheduler", "num_train_timesteps": 0}`, "num_train_timesteps"},
		{`{"_class_name": "DDIMScheduler", "num_train_timesteps": 1e12}`, "num_train_timesteps"},
		{`{"_class_name": "DDIMScheduler", "beta_start": -1}`, "beta_start"},
		{`{"_class_name": "DDIMScheduler", "beta_end": "NaN"}`, `beta_end: "NaN"`},
		{`{"_class_name": "DDIMScheduler", "beta_end": NaN}`, "beta_end: NaN"},
		{`{"_class_name": "DDIMScheduler", "beta_schedule": "cosine"}`, `beta_schedule: "cosine"`},
		{`{"_class_name": "DDIMScheduler", "thresholding": true}`, "thresholding: true"},
		{`{"_class_name": "DDIMScheduler", "clip_sample_range": -Infinity}`, "clip_sample_range: -Infinity"},
		{"{\"_class_name\": \"DDIMScheduler\", \"trained_betas\": [\n 0.1,\n 0.2]}", "trained_betas: [0.1,0.2], want null"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}`, "algorithm_type"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "deis"}`, "algorithm_type"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}`, "solver_order"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": "-inf"}`, `lambda_min_clipped: "-inf"`},
		{`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": NaN}`, "lambda_min_clipped: NaN"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true, "sigma_min": 0}`, "sigma_min: 0"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true, "use_lu_lambdas": true}`, "use_lu_lambdas: true"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "variance_type": "learned"}`, "variance_type"},
		{`{"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous", "prediction_type": "v_prediction"}`, "timestep_type"},
		{`{"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"}`, "interpolation_type"},
		{`{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true}`, "use_beta_sigmas"},
		{`{"_class_name": "PNDMScheduler", "prediction_type": "sample"}`, "prediction_type"},
		{`{"_class_name": "EulerAncestralDiscreteScheduler", "prediction_type": "sample"}`, "prediction_type"},
		// A key that is null is None to the constructor, and not its default.
		{`{"_class_name": "DDIMScheduler", "num_train_timesteps": null}`, "num_train_timesteps: null"},
		{`{"_class_name": "DDIMScheduler", "beta_schedule": null}`, "beta_schedule: null"},
		{`{"_class_name": "DDIMScheduler", "beta_start": null}`, "beta_start: null"},
		{`{"_class_name": "DDIMScheduler", "timestep_spacing": null}`, "timestep_spacing: null"},
		{`{"_class_name": "DDIMScheduler", "prediction_type": null}`, "prediction_type: null"},
		{`{"_class_name": "DDIMScheduler", "steps_offset": null}`, "steps_offset: null"},
		{`{"_class_name": "DDIMScheduler", "clip_sample_range": null}`, "clip_sample_range: null"},
		{`{"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": null}`, "use_karras_sigmas: null"},
		{`{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": null}`, "use_beta_sigmas: null"},
		{`{"_class_name": "EulerDiscreteScheduler", "interpolation_type": null}`, "interpolation_type: null"},
		{`{"_class_name": "EulerDiscreteScheduler", "final_sigmas_type": null}`, "final_sigmas_type: null"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": null}`, "lambda_min_clipped: null"},
		{`{"_class_name": "DPMSolverMultistepScheduler", "solver_order": null}`, "solver_order: null"},
		{`{"_class_name": "LCMScheduler", "original_inference_steps": null}`, "original_inference_steps: null"},
		{`{"_class_name": "LCMScheduler", "_use_default_values": null}`, "_use_default_values: null"},
	} {
		_, err := ParseConfig("scheduler/scheduler_config.json", []byte(c.config))
		if !errors.As(err, new(*loader.Error)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.config, err, c.want)
		}
	}
}

// A number of steps with which diffusers fails is refused, and the reason said; other names are, too.
func TestSchedulerErrors(t *testing.T) {
	cfg, err := ParseConfig("f", []byte(`{"_class_name": "DDIMScheduler", "timestep_spacing": "leading"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, "heun"); !errors.As(err, new(*Error)) || !strings.Contains(err.Error(), "dpm++2m_karras") {
		t.Errorf("an unknown override: %v", err)
	}
	for _, name := range append(Names(), Classes()...) {
		s, err := New(cfg, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, n := range []int{0, -1} {
			if err := s.SetTimesteps(n); !errors.As(err, new(*Error)) {
				t.Errorf("%s with %d steps: %v", name, n, err)
			}
		}
	}
	for _, c := range []struct {
		class, config string
		steps         int
		want          string // "" if it runs
	}{
		{"DDIMScheduler", `{}`, 1000, ""},
		{"DDIMScheduler", `{}`, 1001, "is 1001, want 1 to the scheduler's num_train_timesteps 1000"},
		{"DDIMScheduler", `{"steps_offset": 1}`, 1000, "1000 gives the timestep 1000, and the scheduler has 0 to 999"},
		{"PNDMScheduler", `{}`, 3, "3 gives 3 timesteps, want 4 at least"},
		{"PNDMScheduler", `{"skip_prk_steps": true, "timestep_spacing": "linspace"}`, 1001, ""},
		{"EulerDiscreteScheduler", `{}`, 2000, ""},
		{"EulerDiscreteScheduler", `{"timestep_spacing": "leading"}`, 1001, "1001 gives the first timestep, 0, twice, want fewer steps"},
		{"DPMSolverMultistepScheduler", `{"timestep_spacing": "leading", "steps_offset": 1}`, 998, ""},
		{"DPMSolverMultistepScheduler", `{"timestep_spacing": "leading"}`, 999, ""},
		{"DPMSolverMultistepScheduler", `{"timestep_spacing": "leading", "steps_offset": 1}`, 999, "999 gives two steps one sigma, 157.4"},
		{"DPMSolverMultistepScheduler", `{"timestep_spacing": "leading", "steps_offset": 1, "solver_order": 1}`, 999, ""},
		{"DPMSolverMultistepScheduler", `{"timestep_spacing": "leading", "steps_offset": 1}`, 1000, "1000 gives the first timestep, 1, twice"},
		{"DPMSolverMultistepScheduler", `{"timestep_spacing": "trailing", "lambda_min_clipped": Infinity}`, 5, "5 gives no timestep at all"},
		{"LCMScheduler", `{}`, 51, "want 1 to the scheduler's original_inference_steps 50"},
		{"LCMScheduler", `{"num_train_timesteps": 20}`, 4, "original_inference_steps 50 is more than its num_train_timesteps 20"},
	} {
		s := schedulerCase{Class: c.class, Config: c.config}.make(t)
		err := s.SetTimesteps(c.steps)
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, new(*Error)) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s with %d steps: %v, want %q", c.class, c.config, c.steps, err, c.want)
		}
	}
}
