package pipeline_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/sched"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// configKinds are the configs of a model. use does what a pipeline does with one that was accepted and returns
// false if something is wrong with the result.
var configKinds = []struct {
	file string
	use  func(file string, raw []byte) (refused, wrong error)
}{
	{"unet/config.json", func(file string, raw []byte) (refused, wrong error) {
		cfg, err := unet.ParseConfig(file, raw)
		if err != nil || largeUNet(cfg) {
			return err, nil
		}
		s := layers.NewScope(G.NewGraph(), "unet", layers.Declared{})
		n, err := unet.Build(s, cfg, unet.NewInputs(s, cfg, 1, 16, 8, 2))
		return nil, wrongShape(n, err, 1, 16, 8, cfg.OutChannels)
	}},
	{"vae/config.json", func(file string, raw []byte) (refused, wrong error) {
		cfg, err := vae.ParseConfig(file, raw)
		if err != nil || len(cfg.BlockOutChannels)*cfg.LayersPerBlock > 16 {
			return err, nil
		}
		s := layers.NewScope(G.NewGraph(), "vae", layers.Declared{})
		n, err := vae.Decode(s, cfg, s.Input("latents", G.Float32, 1, 2, 3, cfg.LatentChannels))
		return nil, wrongShape(n, err, 1, 2*cfg.Scale(), 3*cfg.Scale(), cfg.OutChannels)
	}},
	{"text_encoder/config.json", func(file string, raw []byte) (refused, wrong error) {
		cfg, err := textenc.ParseConfig(file, raw)
		if err != nil || cfg.Layers > 8 {
			return err, nil
		}
		s := layers.NewScope(G.NewGraph(), "text_encoder", layers.Declared{})
		n, _, err := textenc.Build(s, cfg, textenc.NewInputs(s, 1, 2, false), textenc.Options{Norm: true})
		return nil, wrongShape(n, err, 1, 2, cfg.Hidden)
	}},
	{"scheduler/scheduler_config.json", useScheduler},
}

// largeUNet says that a graph would take the fuzzer too long.
func largeUNet(cfg unet.Config) bool {
	n := 0
	for _, depths := range slices.Concat(cfg.DownDepths, cfg.UpDepths) {
		for _, depth := range depths {
			n += 1 + depth
		}
	}
	return n > 32
}

func wrongShape(n *G.Node, err error, want ...int) error {
	if err == nil && !n.Shape().Eq(tensor.Shape(want)) {
		err = errors.New("the graph's result is of another shape")
	}
	return err
}

// useScheduler takes two steps with a scheduler.
func useScheduler(file string, raw []byte) (refused, wrong error) {
	cfg, err := sched.ParseConfig(file, raw)
	if err != nil {
		return err, nil
	}
	made, err := sched.New(cfg, "")
	if err != nil {
		return nil, err
	}
	s := sched.NewSampler(made)
	if err := s.SetTimesteps(2); err != nil {
		if errors.As(err, new(*sched.Error)) { // trained with one step
			err = nil
		}
		return nil, err
	}
	sample := []float32{1, -1, 0}
	for i, at := range s.Timesteps() {
		if math.IsInf(float64(at), 0) || at != at {
			return nil, errors.New("a timestep is not finite")
		}
		s.ScaleModelInput(sample, i)
		if err := s.Take([]float32{0.5, 0, -1}, sample, i, sched.Options{Noise: func(x []float32) { clear(x) }}); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// A config is refused with an error that names its file, or a graph can be built from it, and a scheduler run.
func FuzzConfigs(f *testing.F) {
	for _, folder := range []string{"sd1", "sd2", "sdxl"} {
		for kind, k := range configKinds {
			raw, err := os.ReadFile(filepath.Join(golden.Dir(), folder, k.file))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(kind), string(raw))
		}
	}
	for kind := range configKinds {
		f.Add(uint8(kind), `{}`)
	}
	for name := range strings.FieldsSeq("DDIM PNDM EulerDiscrete EulerAncestralDiscrete DPMSolverMultistep LCM") {
		f.Add(uint8(3), `{"_class_name": "`+name+`Scheduler", "num_train_timesteps": 3, "beta_end": 0.999, "timestep_spacing": "trailing"}`)
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw string) {
		k := configKinds[int(kind)%len(configKinds)]
		var refused, wrong error
		bounded.Do(t, 128, 5*time.Second, func() { refused, wrong = k.use(k.file, []byte(raw)) })
		if wrong != nil {
			t.Fatalf("%s was accepted, then: %v", k.file, wrong)
		}
		var e *loader.Error
		if refused != nil && (!errors.As(refused, &e) || e.File != k.file) {
			t.Fatalf("%v does not name %s", refused, k.file)
		}
	})
}

// 58, 60: a config may ask for very many layers; what the checkpoint lacks ends the building of the graph.
func TestConfigsOfVeryManyLayers(t *testing.T) {
	for _, blocks := range []int{2, 64} {
		fsys := goldenFS(t, "sd1")
		var config map[string]any
		if err := json.Unmarshal(fsys["unet/config.json"].Data, &config); err != nil {
			t.Fatal(err)
		}
		repeat := func(v any) (list []any) {
			for range blocks {
				list = append(list, v)
			}
			return list
		}
		for key, v := range map[string]any{
			"block_out_channels": repeat(16), "down_block_types": repeat("CrossAttnDownBlock2D"), "up_block_types": repeat("CrossAttnUpBlock2D"),
			"layers_per_block": 64, "transformer_layers_per_block": 64, "attention_head_dim": 2, "norm_num_groups": 1,
		} {
			config[key] = v
		}
		fsys["unet/config.json"].Data, _ = json.Marshal(config)
		var err error
		bounded.Do(t, 256, 2*time.Second, func() {
			var m *loader.Model
			if m, err = loader.OpenFS(fsys); err == nil {
				_, err = pipeline.NewTextToImage(m)
			}
		})
		if !errors.As(err, new(*loader.Error)) || strings.Count(err.Error(), "\n") != 10 || !strings.Contains(err.Error(), "layers_per_block: 64, want 1") {
			t.Errorf("%d blocks of 64 layers: %.300v", blocks, err)
		}
	}
}
