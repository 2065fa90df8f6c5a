package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/sched"
	"gorgonia.org/tensor"
)

const red = "a red circle on a blue background"

func TestRequestsThatAreRefused(t *testing.T) {
	p, xl := openGolden(t, "sd1"), openGolden(t, "sdxl")
	floats := func(shape ...int) *tensor.Dense {
		return tensor.New(tensor.WithShape(shape...), tensor.Of(tensor.Float32))
	}
	nan := float32(math.NaN())
	for _, c := range []struct {
		want string
		req  pipeline.Request
	}{
		{"height 500 is not a multiple of 8; nearest are 496 and 504", pipeline.Request{Height: 500}},
		{"width 7 is less than 8", pipeline.Request{Width: 7}},
		{"width -8 is less than 8", pipeline.Request{Width: -8}},
		{"height 8200 is more than 8192", pipeline.Request{Height: 8200}},
		{"num_inference_steps is -1", pipeline.Request{NumInferenceSteps: -1}},
		{"num_inference_steps is 1001", pipeline.Request{NumInferenceSteps: 1001, Scheduler: "ddim"}},
		{"num_inference_steps is 1e+06", pipeline.Request{NumInferenceSteps: 1000000}},
		{"num_images_per_prompt is 65", pipeline.Request{NumImagesPerPrompt: 65}},
		{"guidance_scale is NaN", pipeline.Request{GuidanceScale: nan}},
		{"guidance_scale is +Inf", pipeline.Request{GuidanceScale: float32(math.Inf(1))}},
		{"guidance_rescale is 1.5", pipeline.Request{GuidanceRescale: 1.5}},
		{"guidance_rescale is NaN", pipeline.Request{GuidanceRescale: nan}},
		{"guidance_rescale is 0.5, but guidance_scale 1 switches guidance off", pipeline.Request{GuidanceRescale: 0.5, GuidanceScale: 1}},
		{"eta is -1", pipeline.Request{Eta: -1}},
		{"eta is NaN", pipeline.Request{Eta: nan}},
		{"eta is 0.5, which EulerDiscreteScheduler has no use for", pipeline.Request{Eta: 0.5, Scheduler: "euler"}},
		{"original_size is 1.6777217e+07", pipeline.Request{OriginalSize: [2]int{1<<24 + 1, 8}}},
		{"target_size is -8", pipeline.Request{TargetSize: [2]int{8, -8}}},
		{"crops_coords_top_left is", pipeline.Request{CropsCoordsTopLeft: [2]int{0, math.MinInt}}},
		{"is more than 8192, the limit Side", pipeline.Request{Height: math.MaxInt}},
		{"want 1 to 64, the limit Images", pipeline.Request{NumImagesPerPrompt: math.MaxInt}},
		{"clip_skip is 4, want 0 to 3", pipeline.Request{ClipSkip: 4}},
		{`scheduler "heun" is not one of ddim`, pipeline.Request{Scheduler: "heun"}},
		{"prompt is not UTF-8 at byte 1", pipeline.Request{Prompt: "a\xff"}},
		{"prompt is 65537 bytes long", pipeline.Request{Prompt: strings.Repeat("a", 65537)}},
		{"latents is float32 of shape (1, 4, 16, 15), want float32 (1, 4, 16, 16)", pipeline.Request{Latents: floats(1, 4, 16, 15)}},
		{"prompt_embeds is float32 of shape (1, 9, 31)", pipeline.Request{PromptEmbeds: floats(1, 9, 31)}},
		{"prompt_embeds must be given", pipeline.Request{NegativePromptEmbeds: floats(1, 9, 32)}},
		{"negative_prompt_embeds must be given with prompt_embeds of 9 tokens", pipeline.Request{PromptEmbeds: floats(1, 9, 32)}},
	} {
		if c.req.NumInferenceSteps == 0 {
			c.req.NumInferenceSteps = 1
		}
		_, err := p.Generate(t.Context(), c.req)
		if !errors.As(err, new(*pipeline.RequestError)) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("error %q, want %q", fmt.Sprint(err), c.want)
		}
	}
	_, err := xl.Generate(t.Context(), pipeline.Request{PromptEmbeds: floats(1, 9, 56)})
	if !errors.As(err, new(*pipeline.RequestError)) || !strings.Contains(err.Error(), "pooled_prompt_embeds is needed") {
		t.Errorf("SDXL without pooled embeddings: %v", err)
	}
}

// Threads are bounded, and the scale of guidance is the model's where its index names one.
func TestThreadsAndGuidanceOfTheModel(t *testing.T) {
	for _, n := range []int{-1, 1025, math.MaxInt} {
		m, err := loader.Tiny()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pipeline.NewTextToImage(m, graphs.WithThreads(n)); !errors.As(err, new(*graphs.OptionError)) || !strings.Contains(err.Error(), "want 1 to 1024") {
			t.Errorf("%d threads: %v", n, err)
		}
	}
	const plain, key = `"_class_name": "StableDiffusionPipeline",`, ` "_euryale_guidance_scale": `
	for value, want := range map[string]float32{"": 7.5, "null": 7.5, "3": 3, "1.5": 1.5, "0": 0, "-1": 0, "1e9": 0, `"3"`: 0, "[3]": 0} {
		fsys := goldenFS(t, "sd1")
		index := string(fsys["model_index.json"].Data)
		if value != "" {
			index = strings.Replace(index, plain, plain+key+value+",", 1)
		}
		fsys["model_index.json"].Data = []byte(index)
		m, err := loader.OpenFS(fsys)
		if err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.NewTextToImage(m)
		if want == 0 {
			var e *loader.Error
			if !errors.As(err, &e) || e.Field != "_euryale_guidance_scale" {
				t.Errorf("guidance %s: %v", value, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err := p.Resolve(pipeline.Request{}); err != nil || r.GuidanceScale != want {
			t.Errorf("guidance %q: %v, %v, want %v", value, r.GuidanceScale, err, want)
		}
		p.Close()
	}
	m, err := loader.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.NewTextToImage(m)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if r, err := p.Resolve(pipeline.Request{}); err != nil || r.GuidanceScale != 3 {
		t.Errorf("the embedded model: %v, %v", r.GuidanceScale, err)
	}
	// Tiles of a size for toys, of large pictures: more parts than are planned.
	toy := openGolden(t, "sd1", pipeline.WithVAETiling())
	_, _, err = toy.Plan(pipeline.Request{Height: 4096, Width: 4096, NumImagesPerPrompt: 16}, offload.Model())
	if !errors.As(err, new(*pipeline.RequestError)) || !strings.Contains(err.Error(), "parts that are planned") {
		t.Errorf("%v", err)
	}
}

// Limits are the caller's to set; what they allow runs, and a refusal names them.
func TestRequestLimits(t *testing.T) {
	p := openGolden(t, "sd1", pipeline.WithLimits(pipeline.Limits{Side: 16, Steps: 2, Images: 1, Prompt: len(red)}))
	run(t, p, small())
	for want, change := range map[string]func(*pipeline.Request){
		"height 24 is more than 16, the limit Side":                 func(r *pipeline.Request) { r.Height = 24 },
		"num_inference_steps is 3, want 1 to 2, the limit Steps":    func(r *pipeline.Request) { r.NumInferenceSteps = 3 },
		"num_images_per_prompt is 2, want 1 to 1, the limit Images": func(r *pipeline.Request) { r.NumImagesPerPrompt = 2 },
		fmt.Sprintf("want at most %d, the limit Prompt", len(red)):  func(r *pipeline.Request) { r.Prompt += "!" },
	} {
		r := small()
		change(&r)
		if _, err := p.Generate(t.Context(), r); !errors.As(err, new(*pipeline.RequestError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// generate runs one step and returns the latents.
func generate(t *testing.T, p *pipeline.TextToImage, r pipeline.Request) []float32 {
	t.Helper()
	if r.NumInferenceSteps == 0 {
		r.NumInferenceSteps = 2
	}
	if r.Seed == nil {
		r.Seed = pipeline.Seed(3)
	}
	res, err := p.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return res.Latents.Float32s()
}

func equal(a, b []float32) bool { return golden.RelL2(a, b) == 0 }

func TestWhatMayTakeThePlaceOfPromptAndSeed(t *testing.T) {
	p := openGolden(t, "sd1")
	want := generate(t, p, pipeline.Request{Prompt: red})

	noise := make([]float32, 4*16*16)
	torchrand.New(3).Randn(noise)
	latents := tensor.New(tensor.WithShape(1, 4, 16, 16), tensor.WithBacking(noise))
	if got := generate(t, p, pipeline.Request{Prompt: red, Latents: latents, Seed: pipeline.Seed(99)}); !equal(got, want) {
		t.Error("the seed's own noise as latents gives another picture")
	}
	embeds := golden.Load(t, "sd1")["text_encoder.last_hidden_state"]
	row := embeds.Shape[1] * embeds.Shape[2]
	given := tensor.New(tensor.WithShape(1, embeds.Shape[1], embeds.Shape[2]), tensor.WithBacking(embeds.F32[:row]))
	got := generate(t, p, pipeline.Request{PromptEmbeds: given})
	if d := golden.RelL2(got, want); !(d <= 1e-4) {
		t.Errorf("the prompt's embeddings give another picture: %g", d)
	}
	if got := generate(t, p, pipeline.Request{Prompt: red, NegativePromptEmbeds: nil, Seed: pipeline.Seed(4)}); equal(got, want) {
		t.Error("another seed gives the same picture")
	}
	if got := generate(t, p, pipeline.Request{}); equal(got, want) {
		t.Error("the empty prompt gives the same picture")
	}
}

func TestASeedIsPickedAndNamed(t *testing.T) {
	p := openGolden(t, "sd1")
	res, err := p.Generate(t.Context(), pipeline.Request{Prompt: red, NumInferenceSteps: 1})
	if err != nil {
		t.Fatal(err)
	}
	again := generate(t, p, pipeline.Request{Prompt: red, NumInferenceSteps: 1, Seed: pipeline.Seed(res.Seed)})
	if !equal(res.Latents.Float32s(), again) {
		t.Error("the seed that was named gives another picture")
	}
}

func TestTruncationIsNamed(t *testing.T) {
	p := openGolden(t, "sd1")
	res, err := p.Generate(t.Context(), pipeline.Request{Prompt: strings.Repeat("red ", 30) + "circle bar", NumInferenceSteps: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], `"circle bar"`) {
		t.Errorf("warnings %q", res.Warnings)
	}
}

// A run can be stopped at any operation; the next one is not disturbed.
func TestCancellation(t *testing.T) {
	p := openGolden(t, "sd1")
	want := generate(t, p, pipeline.Request{Prompt: red})
	for step := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := p.Generate(ctx, pipeline.Request{Prompt: red, NumInferenceSteps: 2, OnStepEnd: func(s pipeline.Step) error {
			if s.Index == step {
				cancel()
			}
			return nil
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after step %d: %v", step, err)
		}
	}
	stop := errors.New("enough")
	if _, err := p.Generate(t.Context(), pipeline.Request{NumInferenceSteps: 2, OnStepEnd: func(pipeline.Step) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("an error of OnStepEnd: %v", err)
	}
	seen := 0
	if _, err := p.Generate(t.Context(), pipeline.Request{NumInferenceSteps: 3, OnProgress: func(s pipeline.Step) error {
		if seen++; s.Index != seen-1 || s.Total != 4 || s.Latents != nil {
			t.Errorf("progress %+v", s)
		}
		if seen == 2 {
			return stop
		}
		return nil
	}}); !errors.Is(err, stop) || seen != 2 {
		t.Errorf("an error of OnProgress in step 2, after %d: %v", seen, err)
	}
	if got := generate(t, p, pipeline.Request{Prompt: red}); !equal(got, want) {
		t.Error("the run after them gives another picture")
	}
}

// Goroutines take turns, and the number of threads changes no bit.
func TestGoroutinesAndThreads(t *testing.T) {
	want := generate(t, openGolden(t, "sd1", graphs.WithThreads(1)), pipeline.Request{Prompt: red})
	p := openGolden(t, "sd1", graphs.WithThreads(3))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			res, err := p.Generate(context.Background(), pipeline.Request{Prompt: red, NumInferenceSteps: 2, Seed: pipeline.Seed(3)})
			if err != nil || !equal(res.Latents.Float32s(), want) {
				t.Errorf("a concurrent run differs: %v", err)
			}
		})
	}
	wg.Wait()
	p.Close()
	if _, err := p.Generate(t.Context(), pipeline.Request{}); !errors.Is(err, graphs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// goldenFS is a golden folder in memory, to be spoiled.
func goldenFS(t *testing.T, folder string) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	root := os.DirFS(filepath.Join(golden.Dir(), folder))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(root, name)
		out[name] = &fstest.MapFile{Data: raw}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBadModels(t *testing.T) {
	set := func(file, field, value string) func(fstest.MapFS) {
		return func(f fstest.MapFS) {
			var v map[string]json.RawMessage
			if err := json.Unmarshal(f[file].Data, &v); err != nil {
				panic(err)
			}
			v[field] = json.RawMessage(value)
			f[file].Data, _ = json.Marshal(v)
		}
	}
	const unetConfig, textConfig, vaeConfig = "unet/config.json", "text_encoder/config.json", "vae/config.json"
	for _, c := range []struct {
		name   string
		want   []string
		change func(fstest.MapFS)
	}{
		{"a component is missing", []string{"model_index.json", "vae", "no such component"}, set("model_index.json", "vae", `[null, null]`)},
		{"a config is missing", []string{unetConfig, "missing"}, func(f fstest.MapFS) { delete(f, unetConfig) }},
		{"a config is not JSON", []string{unetConfig, "not JSON"}, func(f fstest.MapFS) { f[unetConfig].Data = []byte("{") }},
		{"the tokenizer is missing", []string{"tokenizer/merges.txt", "missing"}, func(f fstest.MapFS) { delete(f, "tokenizer/merges.txt") }},
		{"two configs are wrong: both are named", []string{"cross_attention_norm", "vae/config.json: latent_channels"}, func(f fstest.MapFS) {
			set(unetConfig, "cross_attention_norm", `"layer_norm"`)(f)
			set(vaeConfig, "latent_channels", `0`)(f)
		}},
		{"a vocabulary larger than the table", []string{"tokenizer/vocab.json"}, set(textConfig, "vocab_size", `100`)},
		{"text of another width", []string{unetConfig, "cross_attention_dim"}, set(unetConfig, "cross_attention_dim", `48`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := goldenFS(t, "sd1")
			c.change(fsys)
			var err error
			bounded.Do(t, 256, 2*time.Second, func() {
				var m *loader.Model
				if m, err = loader.OpenFS(fsys); err == nil {
					var p *pipeline.TextToImage
					if p, err = pipeline.NewTextToImage(m); err == nil {
						p.Close()
					}
				}
			})
			if !errors.As(err, new(*loader.Error)) {
				t.Fatalf("error %v, want a *loader.Error", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q in it", err, want)
				}
			}
		})
	}
}

// ownScheduler is a scheduler of a program's own: DDIM's, made wrong in some way.
type ownScheduler struct {
	sched.Scheduler
	samples int
	rows    int
	none    bool
}

func (o ownScheduler) Name() string { return "own" }
func (o ownScheduler) Samples() int { return o.samples }

func (o ownScheduler) Timesteps() []float32 {
	if o.none {
		return nil
	}
	return o.Scheduler.Timesteps()
}

func (o ownScheduler) Step(i int, eta float32) sched.Step {
	s := o.Scheduler.Step(i, eta)
	for len(s.Rows) < o.rows {
		s.Rows = append(s.Rows, sched.Row{})
	}
	return s
}

// A scheduler of the program's own draws what the same one of the model draws, under a plan too, and one that is wrong is
// refused.
func TestCustomSchedulers(t *testing.T) {
	cfg, err := sched.ParseConfig("scheduler_config.json", []byte(`{"_class_name": "DDIMScheduler", "beta_start": 0.00085,
		"beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	request := func(o ownScheduler) pipeline.Request {
		if o.Scheduler, err = sched.New(cfg, ""); err != nil {
			t.Fatal(err)
		}
		return pipeline.Request{Prompt: red, NumInferenceSteps: 3, Seed: pipeline.Seed(3), CustomScheduler: o}
	}
	p := openGolden(t, "sd1")
	want := generate(t, p, pipeline.Request{Prompt: red, NumInferenceSteps: 3, Seed: pipeline.Seed(3), Scheduler: "ddim"})
	for _, s := range []offload.Strategy{nil, offload.Sequential()} {
		if err := p.SetOffload(s); err != nil {
			t.Fatal(err)
		}
		if got := generate(t, p, request(ownScheduler{samples: 1, rows: 1})); !equal(got, want) {
			t.Errorf("%v: other latents than those of the model's scheduler", s)
		}
		if got := generate(t, p, request(ownScheduler{samples: 3, rows: 3})); !equal(got, want) {
			t.Errorf("%v: other latents where two more samples are kept", s)
		}
	}
	for name, o := range map[string]ownScheduler{
		"keeps 0 samples": {}, "keeps 7 samples": {samples: 7, rows: 7}, "makes 1 samples, want the 2": {samples: 2, rows: 1},
		"no timesteps": {samples: 1, rows: 1, none: true},
	} {
		if _, err := p.Generate(t.Context(), request(o)); !errors.As(err, new(*pipeline.RequestError)) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
