package vae_test

import (
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/modeltest"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

// decode decodes latents z [b h w L] in a graph of its own.
func decode(t *testing.T, m *golden.Model, cfg vae.Config, z []float32, b, h, w int) (*modeltest.Network, []float32) {
	t.Helper()
	n := modeltest.New(t, "vae", m)
	in := n.Scope.Input("latents", G.Float32, b, h, w, cfg.LatentChannels)
	out, err := vae.Decode(n.Scope, cfg, in)
	if err != nil {
		t.Fatal(err)
	}
	n.Bind(in, z)
	return n, n.Run(out)[0]
}

func encode(t *testing.T, m *golden.Model, cfg vae.Config, x golden.Tensor) (*modeltest.Network, []float32) {
	t.Helper()
	n := modeltest.New(t, "vae", m)
	in := n.Scope.Input("sample", G.Float32, x.Shape[0], x.Shape[2], x.Shape[3], cfg.InChannels)
	out, err := vae.Encode(n.Scope, cfg, in)
	if err != nil {
		t.Fatal(err)
	}
	n.Bind(in, x.ChannelsLast())
	return n, n.Run(out)[0]
}

// Decoders and encoders of every kind that the config can describe, and tiles, give what diffusers gives, with its
// weights, all of them.
func TestModels(t *testing.T) {
	var worst modeltest.Worst
	models := golden.Models(t, "models")
	if len(models) < 20 {
		t.Fatalf("%d models", len(models))
	}
	for _, m := range models {
		t.Run(m.Name, func(t *testing.T) {
			cfg, err := vae.ParseConfig("config.json", m.Config)
			if err != nil {
				t.Fatal(err)
			}
			z := m.Inputs["latents"]
			h, w := z.Shape[2], z.Shape[3]
			if _, tiled := m.Outputs["tiled"]; tiled {
				out := make([]float32, h*w*cfg.Scale()*cfg.Scale()*cfg.OutChannels)
				one := func(z []float32, h, w int) ([]float32, error) {
					_, px := decode(t, m, cfg, z, 1, h, w)
					return px, nil
				}
				if err := vae.NewTiles(cfg).Decode(out, z.ChannelsLast(), h, w, cfg.LatentChannels, one); err != nil {
					t.Fatal(err)
				}
				worst.Compare(modeltest.New(t, "vae", m), "tiled", out)
				return
			}
			n, px := decode(t, m, cfg, z.ChannelsLast(), z.Shape[0], h, w)
			worst.Compare(n, "decode", px)
			n, moments := encode(t, m, cfg, m.Inputs["pixels"])
			worst.Compare(n, "encode", moments)
			if unused := m.Unused(); len(unused) > 0 {
				t.Errorf("weights that no graph has: %v", unused)
			}
			if err := cfg.Explain(m); err != nil {
				t.Errorf("the config is said not to fit: %v", err)
			}
		})
	}
	t.Logf("the worst relative L2 is %.2g", worst)
}
