package pipeline_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// part is one component of a golden folder in a graph of its own.
type part struct {
	t      *testing.T
	model  *loader.Model
	config []byte
	scope  layers.Scope
}

func newPart(t *testing.T, m *loader.Model, component string) part {
	t.Helper()
	c, err := m.Component(component)
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := c.Config()
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	return part{t, m, raw, layers.NewScope(G.NewGraph(), component, w)}
}

// run gives the values of outputs.
func (p part) run(outputs ...*G.Node) (values [][]float32) {
	p.t.Helper()
	vm, err := graphs.NewVM(outputs[0].Graph(), graphs.WithModel(p.model), graphs.WithOutputs(outputs...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		p.t.Fatal(err)
	}
	for _, n := range outputs {
		values = append(values, slices.Clone(n.Value().Data().([]float32)))
	}
	return values
}

func (p part) let(n *G.Node, data any) {
	p.t.Helper()
	if err := G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(data))); err != nil {
		p.t.Fatal(err)
	}
}

// randn is torch.randn(b, c, h, w), channels last.
func randn(seed uint64, b, c, h, w int) []float32 {
	return golden.Tensor{Shape: []int{b, c, h, w}, F32: golden.Randn(seed, b*c*h*w)}.ChannelsLast()
}

func (p part) agree(name string, got []float32, want golden.Tensor) {
	p.t.Helper()
	if d := golden.RelL2(got, want.ChannelsLast()); !(d <= 1e-5) {
		p.t.Errorf("%s: relative L2 %g", name, d)
	}
}

// Every network alone gives what diffusers' and transformers' give.
func TestNetworksAreThoseOfDiffusers(t *testing.T) {
	for _, family := range []string{"sd1", "sd2", "sdxl"} {
		t.Run(family, func(t *testing.T) {
			m, err := loader.Open(filepath.Join(golden.Dir(), family))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			want := golden.Load(t, family)
			for _, component := range []string{"text_encoder", "text_encoder_2"} {
				if _, err := m.Component(component); err == nil {
					testTextEncoder(t, m, component, want)
				}
			}
			testUNet(t, m, want)
			testVAE(t, m, want)
		})
	}
}

func testTextEncoder(t *testing.T, m *loader.Model, component string, want map[string]golden.Tensor) {
	ids := want[component+".input_ids"]
	b, s := ids.Shape[0], ids.Shape[1]
	p := newPart(t, m, component)
	cfg, err := textenc.ParseConfig("config.json", p.config)
	if err != nil {
		t.Fatal(err)
	}
	projection := p.scope.Has("text_projection.weight")
	for skip := range cfg.Layers + 1 {
		p := newPart(t, m, component)
		in := textenc.NewInputs(p.scope, b, s, true)
		hidden, pooled, err := textenc.Build(p.scope, cfg, in, textenc.Options{Skip: skip, Norm: skip == 0, Projection: projection})
		if err != nil {
			t.Fatal(err)
		}
		p.let(in.IDs, append([]int32(nil), ids.IDs...))
		at := make([]int32, b)
		for i := range at {
			at[i] = cfg.PooledPosition(ids.IDs[i*s:][:s])
		}
		p.let(in.Pooled, at)
		out := p.run(hidden, pooled)
		name := fmt.Sprintf("%s.hidden_states.%d", component, cfg.Layers-skip)
		if skip == 0 {
			name = component + ".last_hidden_state"
		}
		p.agree(name, out[0], want[name])
		p.agree(component+".pooled", out[1], want[component+".pooled"])
	}
}

func testUNet(t *testing.T, m *loader.Model, want map[string]golden.Tensor) {
	for _, size := range [][2]int{{16, 16}, {10, 14}, {7, 9}} {
		p := newPart(t, m, "unet")
		cfg, err := unet.ParseConfig("config.json", p.config)
		if err != nil {
			t.Fatal(err)
		}
		h, w := size[0], size[1]
		in := unet.NewInputs(p.scope, cfg, 2, h, w, 9)
		out, err := unet.Build(p.scope, cfg, in)
		if err != nil {
			t.Fatal(err)
		}
		context := golden.Randn(2, 2*9*cfg.CrossAttentionDim)
		p.let(in.Sample, randn(1, 2, 4, h, w))
		p.let(in.Timestep, []float32{981, 12.5})
		p.let(in.Context, context)
		if cfg.TextTime {
			p.let(in.Pooled, golden.Randn(3, 2*20))
			p.let(in.TimeIDs, []float32{64, 48, 0, 8, 64, 48, 40, 56, 4, 0, 40, 56})
		}
		name := fmt.Sprintf("unet.%dx%d", h, w)
		p.agree(name, p.run(out)[0], want[name])
	}
}

func testVAE(t *testing.T, m *loader.Model, want map[string]golden.Tensor) {
	p := newPart(t, m, "vae")
	cfg, err := vae.ParseConfig("config.json", p.config)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(z []float32, h, w int) ([]float32, error) {
		p := newPart(t, m, "vae")
		in := p.scope.Input("latents", G.Float32, 1, h, w, 4)
		out, err := vae.Decode(p.scope, cfg, in)
		if err != nil {
			return nil, err
		}
		p.let(in, z)
		return p.run(out)[0], nil
	}
	px, err := decode(randn(4, 1, 4, 10, 14), 10, 14)
	if err != nil {
		t.Fatal(err)
	}
	p.agree("vae.decode", px, want["vae.decode"])

	tiled := make([]float32, 21*14*cfg.Scale()*cfg.Scale()*3)
	if err := vae.NewTiles(cfg).Decode(tiled, randn(6, 1, 4, 21, 14), 21, 14, 4, decode); err != nil {
		t.Fatal(err)
	}
	p.agree("vae.decode.tiled", tiled, want["vae.decode.tiled"])

	in := p.scope.Input("sample", G.Float32, 2, 40, 24, 3)
	out, err := vae.Encode(p.scope, cfg, in)
	if err != nil {
		t.Fatal(err)
	}
	p.let(in, randn(5, 2, 3, 40, 24))
	p.agree("vae.encode", p.run(out)[0], want["vae.encode"])
}
