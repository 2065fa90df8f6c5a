package pipeline_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"gorgonia.org/tensor"
)

// elements are where the float32 tensors of a safetensors file lie in it.
func elements(t *testing.T, raw []byte) map[string]int {
	t.Helper()
	n := 8 + binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		DType   string
		Offsets [2]uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw[8:n], &header); err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for name, e := range header {
		if e.DType == "F32" {
			at[name] = int(n + e.Offsets[0])
		}
	}
	return at
}

// usedRow is the first element of the token table's row for the start token, which every prompt has.
func usedRow(t *testing.T, fsys fstest.MapFS) int {
	t.Helper()
	var vocab map[string]int
	var config struct {
		Hidden int `json:"hidden_size"`
	}
	err := errors.Join(json.Unmarshal(fsys["tokenizer/vocab.json"].Data, &vocab), json.Unmarshal(fsys["text_encoder/config.json"].Data, &config))
	if err != nil || vocab["<|startoftext|>"] == 0 {
		t.Fatal("no start token", err)
	}
	return vocab["<|startoftext|>"] * config.Hidden
}

// One number of each tensor in turn is NaN or infinite: the run ends with the layer that has the tensor, whether
// every operation is looked at or only what the networks return. Tensors a picture does not need change nothing.
func TestNonFiniteValueInEveryTensor(t *testing.T) {
	fsys := goldenFS(t, "sd1")
	req := small()
	req.Height, req.Width, req.NumInferenceSteps = 8, 8, 1
	want := run(t, openGolden(t, "sd1"), req)
	planted := 0
	for _, file := range []string{"text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"} {
		raw, component := fsys[file].Data, path.Dir(file)
		tensors := elements(t, raw)
		names := slices.Sorted(maps.Keys(tensors))
		for i := 0; i < len(names); i += some(5) {
			name := names[i]
			at := tensors[name]
			if strings.HasSuffix(name, "token_embedding.weight") {
				at += 4 * usedRow(t, fsys)
			}
			bad := []float64{math.NaN(), math.Inf(1)}[i%2]
			kept := binary.LittleEndian.Uint32(raw[at:])
			binary.LittleEndian.PutUint32(raw[at:], math.Float32bits(float32(bad)))
			err := planting(t, fsys, req, want, i%4 > 1)
			binary.LittleEndian.PutUint32(raw[at:], kept)
			planted++

			var e *graphs.NonFiniteError
			unused := component == "vae" && (strings.HasPrefix(name, "encoder.") || strings.HasPrefix(name, "quant_conv."))
			switch {
			case unused && err != nil:
				t.Errorf("%v in %s, which is not used: %v", bad, name, err)
			case !unused && (!errors.Is(err, graphs.ErrNonFinite) || !errors.As(err, &e) || e.Step != -1 && (component != "unet" || e.Step != 0) || !strings.HasPrefix(component+"."+name, e.Layer+".")):
				t.Errorf("%v in %s.%s: %v", bad, component, name, err)
			}
		}
	}
	t.Logf("%d tensors", planted)
}

// planting makes a pipeline of the folder and runs it; a picture must be the right one.
func planting(t *testing.T, fsys fstest.MapFS, req pipeline.Request, want outcome, checks bool, opts ...graphs.Option) error {
	t.Helper()
	m, err := loader.OpenFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	opts = append(opts, graphs.WithThreads(1))
	if checks {
		opts = append(opts, graphs.WithFiniteChecks())
	}
	p, err := pipeline.NewTextToImage(m, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	res, err := p.Generate(t.Context(), req)
	if err == nil && !bitsOf(res).equal(want) {
		t.Error("another picture")
	}
	return err
}

// A plan runs every network as often as it says, so that without checks only the network is known.
func TestNonFiniteValuesOffloaded(t *testing.T) {
	fsys := goldenFS(t, "sd1")
	raw := fsys["unet/diffusion_pytorch_model.safetensors"].Data
	const layer = "mid_block.resnets.0.conv1"
	binary.LittleEndian.PutUint32(raw[elements(t, raw)[layer+".weight"]:], math.Float32bits(float32(math.NaN())))
	for checks, want := range map[bool]string{true: "unet." + layer, false: "unet.conv_out"} {
		var e *graphs.NonFiniteError
		err := planting(t, fsys, small(), outcome{}, checks, graphs.WithOffload(offload.Sequential()))
		if !errors.As(err, &e) || e.Step != 0 || e.Layer != want {
			t.Errorf("checks=%t: %v", checks, err)
		}
	}
}

// With checks the picture is the same.
func TestFiniteChecksChangeNothing(t *testing.T) {
	want := run(t, openGolden(t, "sd1"), small())
	if !run(t, openGolden(t, "sd1", graphs.WithFiniteChecks()), small()).equal(want) {
		t.Error("another picture")
	}
}

// What the caller brings is looked at too.
func TestNonFiniteValuesOfTheCaller(t *testing.T) {
	p := openGolden(t, "sd1")
	nan := float32(math.NaN())
	latents := tensor.New(tensor.WithShape(1, 4, 16, 16), tensor.Of(tensor.Float32))
	latents.Float32s()[1000] = nan
	_, err := p.Generate(t.Context(), pipeline.Request{Latents: latents})
	if !errors.As(err, new(*pipeline.RequestError)) || !strings.Contains(err.Error(), "latents holds a value that is not finite") {
		t.Errorf("latents: %v", err)
	}
	r := small()
	r.OnStepEnd = func(s pipeline.Step) error {
		if s.Index == 1 { // after it there is no step to notice
			s.Latents[3] = nan
		}
		return nil
	}
	var e *graphs.NonFiniteError
	if _, err := p.Generate(t.Context(), r); !errors.As(err, &e) || e.Step != 1 || e.Layer != "OnStepEnd" {
		t.Errorf("OnStepEnd: %v", err)
	}
}
