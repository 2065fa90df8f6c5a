// Package bench holds the benchmarks of Euryale, and writes the models they run: the real shapes of Stable
// Diffusion 1.5, 2.1 and XL with random weights. See README.md for the figures.
package bench

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

// Families are the models that WriteModel knows.
var Families = []string{"sd15", "sd21", "sdxl"}

// part is one component of a family.
type part struct{ name, library, class, config string }

const (
	sdVAE = `{"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
		"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
		"in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": %d,
		"scaling_factor": %g, "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}`
	clipText = `{"architectures": ["%s"], "model_type": "clip_text_model", "vocab_size": 49408, "max_position_embeddings": 77,
		"hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d, "hidden_act": "%s",
		"projection_dim": %d, "layer_norm_eps": 1e-05, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}`
	sdUNet = `{"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": %s, "block_out_channels": [320, 640, 1280, 1280],
		"center_input_sample": false, "cross_attention_dim": %d, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
		"CrossAttnDownBlock2D", "DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
		"layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
		"sample_size": %d, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
		"use_linear_projection": %t}`
	xlUNet = `{"_class_name": "UNet2DConditionModel", "act_fn": "silu", "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
		"attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
		"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "in_channels": 4, "layers_per_block": 2,
		"norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "projection_class_embeddings_input_dim": 2816, "sample_size": 128,
		"transformer_layers_per_block": [1, 2, 10], "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
		"use_linear_projection": true}`
	sdScheduler = `{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
		"clip_sample": false, "num_train_timesteps": 1000, "prediction_type": "%s", "set_alpha_to_one": false, "steps_offset": 1,
		"timestep_spacing": "leading"}`
)

// parts are the components of a family, with the configs of the published models.
func parts(family string) (class string, list []part, err error) {
	text := func(class string, a ...any) string { return fmt.Sprintf(clipText, append([]any{class}, a...)...) }
	tokenizer := func(name string) part { return part{name, "transformers", "CLIPTokenizer", ""} }
	sd := func(unetConfig, textConfig, prediction string, side int) []part {
		return []part{
			{"scheduler", "diffusers", "DDIMScheduler", fmt.Sprintf(sdScheduler, prediction)},
			{"text_encoder", "transformers", "CLIPTextModel", textConfig}, tokenizer("tokenizer"),
			{"unet", "diffusers", "UNet2DConditionModel", unetConfig},
			{"vae", "diffusers", "AutoencoderKL", fmt.Sprintf(sdVAE, side, 0.18215)},
		}
	}
	switch family {
	case "sd15":
		return "StableDiffusionPipeline", sd(fmt.Sprintf(sdUNet, "8", 768, 64, false),
			text("CLIPTextModel", 768, 3072, 12, 12, "quick_gelu", 768), "epsilon", 512), nil
	case "sd21":
		return "StableDiffusionPipeline", sd(fmt.Sprintf(sdUNet, "[5, 10, 20, 20]", 1024, 96, true),
			text("CLIPTextModel", 1024, 4096, 23, 16, "gelu", 512), "v_prediction", 768), nil
	case "sdxl":
		return "StableDiffusionXLPipeline", []part{
			{"scheduler", "diffusers", "DDIMScheduler", fmt.Sprintf(sdScheduler, "epsilon")},
			{"text_encoder", "transformers", "CLIPTextModel", text("CLIPTextModel", 768, 3072, 12, 12, "quick_gelu", 768)},
			{"text_encoder_2", "transformers", "CLIPTextModelWithProjection", text("CLIPTextModelWithProjection", 1280, 5120, 32, 20, "gelu", 1280)},
			tokenizer("tokenizer"), tokenizer("tokenizer_2"),
			{"unet", "diffusers", "UNet2DConditionModel", xlUNet},
			{"vae", "diffusers", "AutoencoderKL", fmt.Sprintf(sdVAE, 1024, 0.13025)},
		}, nil
	}
	return "", nil, fmt.Errorf("family %q is not one of %s", family, strings.Join(Families, ", "))
}

// WriteModel writes a family's folder in the diffusers layout: seeded random weights in float16, and the
// embedded model's tokenizer. The folder appears under its name only when complete.
func WriteModel(dir, family string) error { return writeModel(dir, family, writeRandom) }

// WriteShapes writes the same folder with weights that are holes in their files: all zeros, and no room on disk.
func WriteShapes(dir, family string) error { return writeModel(dir, family, writeZeros) }

func writeModel(dir, family string, write writer) error {
	class, list, err := parts(family)
	if err != nil {
		return err
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	index := map[string]any{"_class_name": class, "_diffusers_version": "0.34.0"}
	if class == "StableDiffusionXLPipeline" {
		index["force_zeros_for_empty_prompt"] = true
	} else {
		for _, none := range []string{"safety_checker", "feature_extractor", "image_encoder"} {
			index[none] = []any{nil, nil}
		}
		index["requires_safety_checker"] = false
	}
	for _, p := range list {
		index[p.name] = []string{p.library, p.class}
		if err := writePart(filepath.Join(tmp, p.name), p, write); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	raw, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "model_index.json"), raw, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

// writer writes a file of float16 weights.
type writer func(file string, shapes layers.Declared) error

func writePart(dir string, p part, write writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config, weights := "config.json", "diffusion_pytorch_model.safetensors"
	switch {
	case p.class == "CLIPTokenizer":
		return copyTokenizer(dir)
	case p.name == "scheduler":
		return os.WriteFile(filepath.Join(dir, "scheduler_config.json"), []byte(p.config), 0o644)
	case p.library == "transformers":
		weights = "model.safetensors"
	}
	if err := os.WriteFile(filepath.Join(dir, config), []byte(p.config), 0o644); err != nil {
		return err
	}
	shapes, err := declare(p)
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, weights), shapes)
}

// copyTokenizer takes the embedded model's, for texts of 77 tokens: its ids are valid in the larger vocabulary too.
func copyTokenizer(dir string) error {
	m, err := loader.Tiny()
	if err != nil {
		return err
	}
	defer m.Close()
	c, err := m.Component("tokenizer")
	if err != nil {
		return err
	}
	for _, name := range []string{"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"} {
		raw, err := c.TokenizerFile(name)
		if err != nil {
			return err
		}
		raw = regexp.MustCompile(`"model_max_length": \d+`).ReplaceAll(raw, []byte(`"model_max_length": 77`))
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// declare builds the component and returns the weights it asked for.
func declare(p part) (layers.Declared, error) {
	d := layers.Declared{}
	s := layers.NewScope(G.NewGraph(), p.name, d)
	switch p.class {
	case "UNet2DConditionModel":
		cfg, err := unet.ParseConfig("config.json", []byte(p.config))
		if err != nil {
			return nil, err
		}
		_, err = unet.Build(s, cfg, unet.NewInputs(s, cfg, 1, 8, 8, 2))
		return d, err
	case "AutoencoderKL":
		cfg, err := vae.ParseConfig("config.json", []byte(p.config))
		if err != nil {
			return nil, err
		}
		if _, err = vae.Decode(s, cfg, s.Input("z", G.Float32, 1, 2, 2, cfg.LatentChannels)); err != nil {
			return nil, err
		}
		_, err = vae.Encode(s, cfg, s.Input("x", G.Float32, 1, 16, 16, cfg.InChannels))
		return d, err
	}
	cfg, err := textenc.ParseConfig("config.json", []byte(p.config))
	if err != nil {
		return nil, err
	}
	projection := p.class == "CLIPTextModelWithProjection"
	_, _, err = textenc.Build(s, cfg, textenc.NewInputs(s, 1, 77, projection), textenc.Options{Norm: true, Projection: projection})
	return d, err
}

// writeRandom writes weights whose spread keeps activations about their size: 1/sqrt(fan-in) for matrices and
// filters, 1 for norms, small biases.
func writeRandom(file string, shapes layers.Declared) error {
	f, names, _, err := writeHeader(file, shapes)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for i, name := range names {
		if err := randomTensor(w, rand.New(rand.NewPCG(1, uint64(i))), name, shapes[name]); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func writeZeros(file string, shapes layers.Declared) error {
	f, _, size, err := writeHeader(file, shapes)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Close()
}

// writeHeader begins a safetensors file of float16 weights. It returns their names in order and the size the file
// is to have.
func writeHeader(file string, shapes layers.Declared) (f *os.File, names []string, size int64, err error) {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, at := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, int64(0)
	names = slices.Sorted(maps.Keys(shapes))
	for _, name := range names {
		n := int64(2)
		for _, d := range shapes[name] {
			n *= int64(d)
		}
		header[name] = entry{"F16", shapes[name], [2]int64{at, at + n}}
		at += n
	}
	raw, err := json.Marshal(header)
	if err != nil {
		return nil, nil, 0, err
	}
	for len(raw)%8 != 0 {
		raw = append(raw, ' ')
	}
	if f, err = os.Create(file); err != nil {
		return nil, nil, 0, err
	}
	raw = append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...)
	if _, err := f.Write(raw); err != nil {
		f.Close()
		return nil, nil, 0, err
	}
	return f, names, int64(len(raw)) + at, nil
}

func randomTensor(w *bufio.Writer, rng *rand.Rand, name string, shape []int) error {
	n := 1
	for _, d := range shape {
		n *= d
	}
	mean, spread := 0.0, 0.02
	switch {
	case strings.Contains(name, "embedding.weight"):
		spread = 0.5
	case len(shape) > 1:
		spread = 1 / math.Sqrt(float64(n/shape[0]))
	case strings.HasSuffix(name, "weight"):
		mean, spread = 1, 0.05
	}
	var b [2]byte
	for range n {
		// The sum of four uniform numbers is near enough to a normal one, and quick.
		u := rng.Uint64()
		s := float64(u&0xffff) + float64(u>>16&0xffff) + float64(u>>32&0xffff) + float64(u>>48)
		v := (s/65536 - 2) * math.Sqrt(3)
		binary.LittleEndian.PutUint16(b[:], dtype.F32ToF16(float32(mean+spread*v)))
		if _, err := w.Write(b[:]); err != nil {
			return err
		}
	}
	return nil
}
