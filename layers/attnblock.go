package layers

import (
	"github.com/euryale-ml/euryale/internal/ops/op"
	G "gorgonia.org/gorgonia"
)

// SelfAttention is the attention of one layer of projections to_q, to_k, to_v and to_out.0, as in diffusers'
// Attention. Keys and values come from context, or from x if context is nil.
//
//	x       [B ... C]
//	context [B S C']
//	result  [B ... C]
func SelfAttention(s Scope, x, context *G.Node, heads int, bias bool) Flow {
	if context == nil {
		context = x
	}
	c := op.Last(x.Shape())
	q := s.On(x).linear("to_q", c, bias)
	k := s.On(context).linear("to_k", c, bias)
	v := s.On(context).linear("to_v", c, bias)
	return q.Attention(k, v, heads, false).Linear("to_out.0", c)
}

// ResBlockConfig is the part of ResnetBlock2D that differs between blocks.
type ResBlockConfig struct {
	Out    int
	Groups int
	Eps    float32
}

// ResBlock adds one residual block to the graph.
//
//	x      [B H W In]
//	temb   [B Temb]        the activated time embedding; nil if the model has none
//	result [B H W Out]
//
// The steps and their names are those of diffusers' ResnetBlock2D.
func ResBlock(s Scope, cfg ResBlockConfig, x, temb *G.Node) (*G.Node, error) {
	h := s.On(x).GroupNorm("norm1", cfg.Groups, cfg.Eps).SiLU().Conv("conv1", cfg.Out, 3)
	if temb != nil {
		h = h.AddChannels(s.On(temb).Linear("time_emb_proj", cfg.Out))
	}
	h = h.GroupNorm("norm2", cfg.Groups, cfg.Eps).SiLU().Conv("conv2", cfg.Out, 3)

	skip := s.On(x)
	if op.Last(x.Shape()) != cfg.Out {
		skip = skip.Pointwise("conv_shortcut", cfg.Out)
	}
	return h.Add(skip).Node()
}
