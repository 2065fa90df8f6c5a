package pipeline_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

const (
	modelIndex      = "model_index.json"
	schedulerConfig = "scheduler/scheduler_config.json"
)

// set gives a field of a JSON file another value.
func set(t *testing.T, f fstest.MapFS, file, field, value string) {
	t.Helper()
	var v map[string]json.RawMessage
	if err := json.Unmarshal(f[file].Data, &v); err != nil {
		t.Fatal(err)
	}
	v[field] = json.RawMessage(value)
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	f[file] = &fstest.MapFile{Data: raw}
}

func openFS(t *testing.T, fsys fstest.MapFS, opts ...graphs.Option) *pipeline.TextToImage {
	t.Helper()
	m, err := loader.OpenFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return pipelineOf(t, m, opts...)
}

// A model whose own scheduler cannot be made opens, and runs with another one that is asked for: in the request or for
// the whole pipeline. Without, the request fails and says what is the matter with the model.
func TestAnotherSchedulerRescuesAModel(t *testing.T) {
	asked := small()
	asked.Scheduler = "ddim"
	res, err := openFS(t, goldenFS(t, "sd1")).Generate(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	want := hash(res)
	for _, c := range []struct {
		name    string
		problem string // of the request without a scheduler
		warning string // of the other: the config is not the model's
		change  func(fstest.MapFS)
	}{
		{"the class is unknown", "model_index.json: scheduler: DDPMScheduler, want one of DDIMScheduler", "", func(f fstest.MapFS) {
			set(t, f, modelIndex, "scheduler", `["diffusers", "DDPMScheduler"]`)
		}},
		{"the class is of another library", "model_index.json: scheduler: a class of mine", "", func(f fstest.MapFS) {
			set(t, f, modelIndex, "scheduler", `["mine", "Sampler"]`)
		}},
		{"a value is not implemented", schedulerConfig + ": trained_betas: [0.1], want null", "", func(f fstest.MapFS) {
			set(t, f, schedulerConfig, "skip_prk_steps", `"maybe"`)
			set(t, f, schedulerConfig, "trained_betas", `[0.1]`)
		}},
		{"the config is missing", schedulerConfig + ": missing", schedulerConfig + ": missing", func(f fstest.MapFS) {
			delete(f, schedulerConfig)
		}},
		{"the config is no JSON", schedulerConfig + ": not JSON", "not JSON: the noise of Stable Diffusion", func(f fstest.MapFS) {
			f[schedulerConfig] = &fstest.MapFile{Data: []byte("version https://")}
		}},
		{"the config is no object", schedulerConfig + ": not a JSON object", "not a JSON object", func(f fstest.MapFS) {
			f[schedulerConfig] = &fstest.MapFile{Data: []byte("[]")}
		}},
		{"there is no scheduler", "model_index.json: scheduler: no such component", "no such component: the noise of", func(f fstest.MapFS) {
			set(t, f, modelIndex, "scheduler", `[null, null]`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := goldenFS(t, "sd1")
			c.change(fsys)
			p := openFS(t, fsys)
			_, err := p.Generate(t.Context(), small())
			if !errors.As(err, new(*loader.Error)) || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("without another scheduler: %v, want %q", err, c.problem)
			}
			if _, err := p.Inventory(small()); err == nil {
				t.Error("a plan without another scheduler is made")
			}
			res, err := p.Generate(t.Context(), asked)
			if c.name == "a value is not implemented" { // by no class
				if err == nil {
					t.Error("trained_betas are taken by another class")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if hash(res) != want || res.Scheduler != "DDIMScheduler" {
				t.Errorf("another picture, by %s", res.Scheduler)
			}
			if got := strings.Join(res.Warnings, "\n"); !strings.Contains(got, c.warning) || (c.warning == "") != (got == "") {
				t.Errorf("warnings %q, want %q", got, c.warning)
			}
			res, err = openFS(t, fsys, pipeline.WithScheduler("ddim")).Generate(t.Context(), small())
			if err != nil || hash(res) != want {
				t.Errorf("with the scheduler of the whole pipeline: another picture or %v", err)
			}
		})
	}
}

// The class is the index's, whatever class has written the file.
func TestTheIndexNamesTheScheduler(t *testing.T) {
	r := small()
	r.NumInferenceSteps = 4
	res, err := openFS(t, goldenFS(t, "sd1")).Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{`"DDIMScheduler"`, `"HeunDiscreteScheduler"`, `["a", "b"]`} {
		fsys := goldenFS(t, "sd1")
		set(t, fsys, schedulerConfig, "_class_name", class)
		got, err := openFS(t, fsys).Generate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if hash(got) != hash(res) || got.Scheduler != "PNDMScheduler" {
			t.Errorf("file of %s, index of PNDMScheduler: another picture, by %s", class, got.Scheduler)
		}
	}
}

// Resolve is the same a second time: the model's own scheduler is not taken for one that was asked for, which is made
// from it and may be another though the class is one. Here StableDiffusionPipeline had switched clipping off, which is
// then lost.
func TestTheModelsOwnSchedulerIsNotMadeAnew(t *testing.T) {
	fsys := goldenFS(t, "sd1")
	set(t, fsys, modelIndex, "scheduler", `["diffusers", "DDIMScheduler"]`)
	fsys[schedulerConfig] = &fstest.MapFile{Data: []byte(`{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}`)}
	p := openFS(t, fsys)
	own, err := p.Generate(t.Context(), small())
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Resolve(small())
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.Generate(t.Context(), r)
	if err != nil || hash(again) != hash(own) {
		t.Errorf("a resolved request gives another picture; %v", err)
	}
	for _, name := range []string{"ddim", "DDIMScheduler"} {
		r := small()
		r.Scheduler = name
		made, err := p.Generate(t.Context(), r)
		if err != nil || hash(made) == hash(own) || made.Scheduler != own.Scheduler {
			t.Errorf("%s: clips no more than the model's own; %v", name, err)
		}
	}
}

// Noise is drawn in every step in which diffusers draws it: of these steps the first adds none, its two sigmas being
// one, and the others depend on whether it was drawn.
func TestNoiseIsDrawnWhereNoneIsAdded(t *testing.T) {
	fsys := goldenFS(t, "sd1")
	set(t, fsys, schedulerConfig, "num_train_timesteps", "20")
	res, err := openFS(t, fsys).Generate(t.Context(), pipeline.Request{Prompt: "a red circle", NumInferenceSteps: 20, Height: 16, Width: 16,
		Seed: pipeline.Seed(5), Scheduler: "euler_a"})
	if err != nil {
		t.Fatal(err)
	}
	want := golden.Load(t, "drawn")["latents"]
	if fmt.Sprint([]int(res.Latents.Shape())) != fmt.Sprint(want.Shape) {
		t.Fatalf("latents of shape %v, want %v", res.Latents.Shape(), want.Shape)
	}
	if d := golden.RelL2(res.Latents.Float32s(), want.F32); !(d <= 1e-4) {
		t.Errorf("latents: relative L2 %g", d)
	}
}
