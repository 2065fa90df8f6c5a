package textenc

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
)

// Inputs are the leaves a caller binds before each run.
type Inputs struct {
	IDs    *G.Node // [B S]  int32 token ids
	Pooled *G.Node // [B]    int32 position to pool; nil if no pooled output is wanted
}

// NewInputs adds the leaves for b texts of s tokens.
func NewInputs(sc layers.Scope, b, s int, pooled bool) Inputs {
	in := Inputs{IDs: sc.Input("input_ids", G.Int32, b, s)}
	if pooled {
		in.Pooled = sc.Input("eos_position", G.Int32, b)
	}
	return in
}

// Options says which states are wanted.
type Options struct {
	Skip       int  // layers left out at the end of the hidden state; all of them gives the embeddings
	Norm       bool // final_layer_norm over the hidden state
	Projection bool // text_projection over the pooled state (CLIPTextModelWithProjection)
}

// Build adds the text transformer to the graph.
//
//	in     Inputs
//	hidden [B S C]
//	pooled [B P]     P is C without projection; nil unless in.Pooled is set
func Build(s layers.Scope, cfg Config, in Inputs, opt Options) (hidden, pooled *G.Node, err error) {
	defer stack.Add(&err)
	if opt.Skip < 0 || opt.Skip > cfg.Layers {
		return nil, nil, stack.With(fmt.Errorf("clip skip %d of a text encoder of %d layers; the most is %d", opt.Skip,
			cfg.Layers, cfg.Layers))
	}
	m := s.Sub("text_model")
	f := m.On(in.IDs).Embed(cfg.VocabSize, cfg.MaxPositions, cfg.Hidden)
	depth := cfg.Layers
	if in.Pooled == nil {
		depth -= opt.Skip
	}
	h := f
	for i := range depth {
		f = f.Then("encoder.layers", func(s layers.Scope, x *G.Node) (*G.Node, error) { return cfg.layer(s.Sub(i), x) })
		if i == cfg.Layers-opt.Skip-1 {
			h = f
		}
	}
	if opt.Norm {
		h = h.LayerNorm("final_layer_norm", cfg.LayerNormEps)
	}
	if in.Pooled != nil {
		p := f.LayerNorm("final_layer_norm", cfg.LayerNormEps).Pick(in.Pooled)
		if opt.Projection {
			p = p.At(s).LinearNoBias("text_projection", cfg.ProjectionDim)
		}
		if pooled, err = p.Node(); err != nil {
			return nil, nil, err
		}
	}
	if err := s.Err(); err != nil {
		return nil, nil, err
	}
	hidden, err = h.Node()
	return hidden, pooled, err
}

// layer is CLIPEncoderLayer.
//
//	x, result [B S C]
func (cfg Config) layer(s layers.Scope, x *G.Node) (*G.Node, error) {
	n, err := s.On(x).LayerNorm("layer_norm1", cfg.LayerNormEps).Node()
	if err != nil {
		return nil, err
	}
	a, c := s.Sub("self_attn").On(n), cfg.Hidden
	h := a.Linear("q_proj", c).Attention(a.Linear("k_proj", c), a.Linear("v_proj", c), cfg.Heads, true).
		Linear("out_proj", c).At(s).Add(s.On(x))
	return h.LayerNorm("layer_norm2", cfg.LayerNormEps).
		Linear("mlp.fc1", cfg.Intermediate).Activation(cfg.Activation).Linear("mlp.fc2", c).Add(h).Node()
}
