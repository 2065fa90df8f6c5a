package unet_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/modeltest"
	"github.com/euryale-ml/euryale/unet"
)

// network is a graph with the model's inputs bound.
func network(t *testing.T, m *golden.Model) (*modeltest.Network, unet.Config, unet.Inputs) {
	t.Helper()
	cfg, err := unet.ParseConfig("config.json", m.Config)
	if err != nil {
		t.Fatal(err)
	}
	n := modeltest.New(t, "unet", m)
	size, context := m.Inputs["sample"].Shape, m.Inputs["encoder_hidden_states"].Shape
	in := unet.NewInputs(n.Scope, cfg, size[0], size[2], size[3], context[1])
	n.Let(in.Sample, "sample")
	n.Let(in.Timestep, "timestep")
	n.Let(in.Context, "encoder_hidden_states")
	if cfg.TextTime {
		n.Let(in.Pooled, "text_embeds")
		n.Let(in.TimeIDs, "time_ids")
	}
	return n, cfg, in
}

// Models of every kind that the config can describe give what diffusers gives, with its weights, all of them.
func TestModels(t *testing.T) {
	var worst modeltest.Worst
	models := golden.Models(t, "models")
	if len(models) < 30 {
		t.Fatalf("%d models", len(models))
	}
	for _, m := range models {
		t.Run(m.Name, func(t *testing.T) {
			n, cfg, in := network(t, m)
			out, err := unet.Build(n.Scope, cfg, in)
			if err != nil {
				t.Fatal(err)
			}
			worst.Compare(n, "sample", n.Run(out)[0])
			if unused := m.Unused(); len(unused) > 0 {
				t.Errorf("weights that the graph does not have: %v", unused)
			}
			if err := cfg.Explain(m); err != nil {
				t.Errorf("the config is said not to fit: %v", err)
			}
		})
	}
	t.Logf("the worst relative L2 is %.2g", worst)
}

// Conditioning, blocks and numbers that are not implemented or do not fit are refused by their key.
func TestRefusals(t *testing.T) {
	for key, value := range map[string]string{
		"class_embed_type": `"timestep"`, "num_class_embeds": "4", "encoder_hid_dim_type": `"ip_image_proj"`,
		"encoder_hid_dim": "8", "addition_embed_type": `"image"`, "time_cond_proj_dim": "8",
		"only_cross_attention": "[true, false]", "dual_cross_attention": "true", "num_attention_heads": "2",
		"mid_block_type": `"UNetMidBlock2DSimpleCrossAttn"`, "down_block_types": `["AttnDownBlock2D", "DownBlock2D"]`,
		"up_block_types": `["UpBlock2D"]`, "attention_head_dim": "[3, 3]", "cross_attention_dim": "[4, 8]",
		"transformer_layers_per_block": "[[1], [1]]", "block_out_channels": "[8, 15]",
	} {
		fields := map[string]string{
			"block_out_channels": "[8, 16]", "norm_num_groups": "4",
			"down_block_types": `["CrossAttnDownBlock2D", "DownBlock2D"]`,
			"up_block_types":   `["UpBlock2D", "CrossAttnUpBlock2D"]`, "attention_head_dim": "2", "layers_per_block": "1",
		}
		if _, err := unet.ParseConfig("config.json", config(fields)); err != nil {
			t.Fatal(err)
		}
		fields[key] = value
		_, err := unet.ParseConfig("config.json", config(fields))
		var bad *badmodel.Error
		if !errors.As(err, &bad) || bad.File != "config.json" || bad.Field != key {
			t.Errorf("%s %s: %v, want an error of that field", key, value, err)
		}
	}
}

func config(fields map[string]string) []byte {
	raw := map[string]json.RawMessage{}
	for key, value := range fields {
		raw[key] = json.RawMessage(value)
	}
	out, err := json.Marshal(raw)
	if err != nil {
		panic(err)
	}
	return out
}

// Weights that do not fit are all named, and the config's field that they contradict.
func TestMisfits(t *testing.T) {
	m := golden.Models(t, "models")[0]
	delete(m.Weights, "conv_norm_out.weight")
	m.Weights["conv_out.bias"] = []int{5}
	m.Weights["conv_in.weight"] = []int{8, 9, 3, 3}
	n, cfg, in := network(t, m)
	_, err := unet.Build(n.Scope, cfg, in)
	for _, want := range []string{
		"unet: conv_norm_out.weight: the weight is missing, want [8]", "conv_out.bias: shape [5], want [4]",
		"conv_in.weight: shape [8 9 3 3], want [8 4 3 3]",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q", err, want)
		}
	}
	var bad *badmodel.Error
	if err := cfg.Explain(m); !errors.As(err, &bad) || bad.Field != "in_channels" {
		t.Errorf("%v, want an error of in_channels", err)
	}
}

// An input that is not there is an error, and not another network.
func TestInputsThatAreMissing(t *testing.T) {
	models := golden.Models(t, "models")
	m := models[slices.IndexFunc(models, func(m *golden.Model) bool { return strings.HasPrefix(m.Name, "text_time,") })]
	for name, remove := range map[string]func(*unet.Inputs){
		"sample": func(in *unet.Inputs) { in.Sample = nil }, "timestep": func(in *unet.Inputs) { in.Timestep = nil },
		"encoder_hidden_states": func(in *unet.Inputs) { in.Context = nil },
		"text_embeds":           func(in *unet.Inputs) { in.Pooled = nil }, "time_ids": func(in *unet.Inputs) { in.TimeIDs = nil },
	} {
		n, cfg, in := network(t, m)
		remove(&in)
		if _, err := unet.Build(n.Scope, cfg, in); err == nil || !strings.Contains(err.Error(), "unet") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
