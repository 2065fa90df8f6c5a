// Package bench holds the benchmarks of Euryale, and writes the models they run: the real shapes of Stable
// Diffusion 1.5, 2.1 and XL with random weights. See README.md for the figures.
package bench

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
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

// Folder is a model folder to write: the diffusers layout, seeded random weights, and the embedded model's tokenizer.
// Its bytes depend on these fields alone, so that what was measured on one machine can be measured on another.
type Folder struct {
	Family string     // one of Families
	Small  bool       // the same blocks with few channels, for tests
	DType  dtype.Type // of the weights: F16 or F32
	Seed   uint64
	Zeros  bool // no numbers: weights are holes in their files, and take no room on disk
}

// Write writes the folder, which appears under its name only when complete.
func (f Folder) Write(dir string) error {
	if f.DType != dtype.F16 && f.DType != dtype.F32 {
		return fmt.Errorf("weights of type %v are not written, want F16 or F32", f.DType)
	}
	class, list, err := parts(f.Family)
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
		if err := f.writePart(filepath.Join(tmp, p.name), p); err != nil {
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

func (f Folder) writePart(dir string, p part) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	weights := "diffusion_pytorch_model.safetensors"
	switch {
	case p.class == "CLIPTokenizer":
		return copyTokenizer(dir)
	case p.name == "scheduler":
		return os.WriteFile(filepath.Join(dir, "scheduler_config.json"), []byte(p.config), 0o644)
	case p.library == "transformers":
		weights = "model.safetensors"
	}
	if f.Small {
		if p.config, err = shrunk(p.config, small[f.Family][p.name]); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(p.config), 0o644); err != nil {
		return err
	}
	shapes, err := declare(p)
	if err != nil {
		return err
	}
	return f.writeWeights(filepath.Join(dir, weights), shapes)
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

// writeWeights writes a safetensors file, its tensors in the order of their names. Each has a generator of its own, so
// they are written side by side.
func (f Folder) writeWeights(file string, shapes layers.Declared) (err error) {
	names := slices.Sorted(maps.Keys(shapes))
	header, at, err := f.header(names, shapes)
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := out.Write(header); err != nil {
		return err
	}
	if f.Zeros {
		return out.Truncate(at[len(names)])
	}
	errs := make([]error, len(names))
	room := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, name := range names {
		room <- struct{}{}
		go func() {
			w := bufio.NewWriterSize(io.NewOffsetWriter(out, at[i]), 1<<20)
			errs[i] = errors.Join(f.randomTensor(w, rand.New(rand.NewPCG(f.Seed, uint64(i))), name, shapes[name]), w.Flush())
			<-room
		}()
	}
	for range cap(room) { // until all are done
		room <- struct{}{}
	}
	return errors.Join(errs...)
}

// header returns what a safetensors file begins with, where in the file each tensor begins, and the file's size.
func (f Folder) header(names []string, shapes layers.Declared) (header []byte, at []int64, err error) {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	fields, end := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, int64(0)
	at = []int64{0}
	for _, name := range names {
		begin := end
		end += int64(elements(shapes[name]) * f.DType.Size())
		fields[name] = entry{f.DType.String(), shapes[name], [2]int64{begin, end}}
		at = append(at, end)
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, nil, err
	}
	for len(raw)%8 != 0 {
		raw = append(raw, ' ')
	}
	header = append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...)
	for i := range at {
		at[i] += int64(len(header))
	}
	return header, at, nil
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// randomTensor writes weights whose spread keeps activations about their size, so that float16 holds them:
// 1/sqrt(fan-in) for matrices and filters, 1 for norms, small biases.
func (f Folder) randomTensor(w io.Writer, rng *rand.Rand, name string, shape []int) error {
	n := elements(shape)
	mean, spread := 0.0, 0.02
	switch {
	case strings.Contains(name, "embedding.weight"):
		spread = 0.5
	case len(shape) > 1:
		spread = 1 / math.Sqrt(float64(n/shape[0]))
	case strings.HasSuffix(name, "weight"):
		mean, spread = 1, 0.05
	}
	var b [4]byte
	size := f.DType.Size()
	for range n {
		// The sum of four uniform numbers is near enough to a normal one, and quick.
		u := rng.Uint64()
		s := float64(u&0xffff) + float64(u>>16&0xffff) + float64(u>>32&0xffff) + float64(u>>48)
		v := (s/65536 - 2) * math.Sqrt(3)
		// The conversion forbids a fused multiply-add, which some processors have and which rounds otherwise.
		x := float32(mean + float64(spread*v))
		if f.DType == dtype.F16 {
			binary.LittleEndian.PutUint16(b[:], dtype.F32ToF16(x))
		} else {
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
		}
		if _, err := w.Write(b[:size]); err != nil {
			return err
		}
	}
	return nil
}
