package unet

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
)

// transformer is Transformer2DModel: every pixel is a token.
//
//	x, result [B H W C]
func (b builder) transformer(s layers.Scope, x *G.Node, heads, depth int) (*G.Node, error) {
	if b.context == nil { // without a context, attention would be to the image itself
		return nil, stack.With(fmt.Errorf("%s: encoder_hidden_states is nil, want the text embeddings", s.Name()))
	}
	c := x.Shape()[3]
	h := s.On(x).GroupNorm("norm", b.cfg.NormGroups, 1e-6)
	if b.cfg.UseLinearProjection {
		h = h.Linear("proj_in", c)
	} else {
		h = h.Pointwise("proj_in", c)
	}
	for i := range depth {
		h = h.Then("transformer_blocks", func(s layers.Scope, x *G.Node) (*G.Node, error) {
			return b.transformerBlock(s.Sub(i), x, heads)
		})
	}
	if b.cfg.UseLinearProjection {
		h = h.Linear("proj_out", c)
	} else {
		h = h.Pointwise("proj_out", c)
	}
	out, err := h.Add(s.On(x)).Node()
	if err != nil {
		return nil, err
	}
	return b.result(s, out)
}

// transformerBlock is BasicTransformerBlock: attention within the image, attention to the text, then a gated
// feed-forward layer, each on the normalised input and added to it.
//
//	x, result [B H W C]
func (b builder) transformerBlock(s layers.Scope, x *G.Node, heads int) (*G.Node, error) {
	c := x.Shape()[3]
	attend := func(norm, attn string, context *G.Node) func(layers.Scope, *G.Node) (*G.Node, error) {
		return func(s layers.Scope, x *G.Node) (*G.Node, error) {
			n, err := s.On(x).LayerNorm(norm, 1e-5).Node()
			if err != nil {
				return nil, err
			}
			a := Attention{Scope: s.Sub(attn), X: n, Context: context, Heads: heads}
			h, err := b.attend(a)
			if err != nil {
				return nil, err
			}
			return a.Scope.On(h).Add(s.On(x)).Node()
		}
	}
	h := s.On(x).Then("", attend("norm1", "attn1", nil)).Then("", attend("norm2", "attn2", b.context))
	out, err := h.LayerNorm("norm3", 1e-5).Linear("ff.net.0.proj", 8*c).GEGLU().Linear("ff.net.2", c).Add(h).Node()
	if err != nil {
		return nil, err
	}
	return b.result(s, out)
}
