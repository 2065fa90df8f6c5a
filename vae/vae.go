package vae

import (
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
)

// builder carries what every block needs.
type builder struct{ cfg Config }

// Decode adds the decoder to the graph.
//
//	z      [B h w L]     latents, already divided by the scaling factor and shifted
//	result [B H W Out]   pixels, about -1 to 1; H = Scale*h
func Decode(s layers.Scope, cfg Config, z *G.Node) (*G.Node, error) {
	b := builder{cfg}
	f := s.On(z)
	if cfg.PostQuantConv {
		f = f.Pointwise("post_quant_conv", cfg.LatentChannels)
	}
	n := len(cfg.BlockOutChannels)
	d := s.Sub("decoder")
	f = f.At(d).Conv("conv_in", cfg.BlockOutChannels[n-1], 3).Then("mid_block", b.mid)
	for i := range n {
		f = f.Then("up_blocks", func(s layers.Scope, x *G.Node) (*G.Node, error) { return b.up(s.Sub(i), i, x) })
	}
	f = f.GroupNorm("conv_norm_out", cfg.NormGroups, 1e-6).SiLU().Conv("conv_out", cfg.OutChannels, 3)
	return finish(s, f)
}

// Encode adds the encoder to the graph.
//
//	x      [B H W In]     pixels, -1 to 1
//	result [B h w 2L]     means, then the logarithms of the variances; H = Scale*h
func Encode(s layers.Scope, cfg Config, x *G.Node) (*G.Node, error) {
	b := builder{cfg}
	f := s.Sub("encoder").On(x).Conv("conv_in", cfg.BlockOutChannels[0], 3)
	for i := range cfg.BlockOutChannels {
		f = f.Then("down_blocks", func(s layers.Scope, x *G.Node) (*G.Node, error) { return b.down(s.Sub(i), i, x) })
	}
	f = f.Then("mid_block", b.mid).
		GroupNorm("conv_norm_out", cfg.NormGroups, 1e-6).SiLU().Conv("conv_out", 2*cfg.LatentChannels, 3)
	if cfg.QuantConv {
		f = f.At(s).Pointwise("quant_conv", 2*cfg.LatentChannels)
	}
	return finish(s, f)
}

func finish(s layers.Scope, f layers.Flow) (*G.Node, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	n, err := f.Node()
	return n, stack.With(err)
}

func (b builder) res(name any, out int) func(layers.Scope, *G.Node) (*G.Node, error) {
	return func(s layers.Scope, x *G.Node) (*G.Node, error) {
		return layers.ResBlock(s.Sub(name), layers.ResBlockConfig{Out: out, Groups: b.cfg.NormGroups, Eps: 1e-6}, x, nil)
	}
}

// mid is UNetMidBlock2D.
//
//	x, result [B H W C]
func (b builder) mid(s layers.Scope, x *G.Node) (*G.Node, error) {
	c := b.cfg.BlockOutChannels[len(b.cfg.BlockOutChannels)-1]
	f := s.On(x).Then("resnets", b.res(0, c))
	if b.cfg.MidAttention {
		f = f.Then("attentions.0", b.attention)
	}
	return f.Then("resnets", b.res(1, c)).Node()
}

// attention is one head over all pixels. Checkpoints from before diffusers 0.16 name its projections
// differently.
//
//	x, result [B H W C]
func (b builder) attention(s layers.Scope, x *G.Node) (*G.Node, error) {
	q, k, v, out := "to_q", "to_k", "to_v", "to_out.0"
	if s.Has("query.weight") {
		q, k, v, out = "query", "key", "value", "proj_attn"
	}
	n, err := s.On(x).GroupNorm("group_norm", b.cfg.NormGroups, 1e-6).Node()
	if err != nil {
		return nil, err
	}
	c := x.Shape()[3]
	h := s.On(n)
	return h.Linear(q, c).Attention(h.Linear(k, c), h.Linear(v, c), 1, false).Linear(out, c).Add(s.On(x)).Node()
}

// up is UpDecoderBlock2D.
//
//	x      [B H W C]
//	result [B 2H 2W C']   [B H W C'] in the last block
func (b builder) up(s layers.Scope, i int, x *G.Node) (*G.Node, error) {
	last := len(b.cfg.BlockOutChannels) - 1
	c := b.cfg.BlockOutChannels[last-i]
	f := s.On(x)
	for j := range b.cfg.LayersPerBlock + 1 {
		f = f.Then("resnets", b.res(j, c))
	}
	if i < last {
		f = f.Upsample().Conv("upsamplers.0.conv", c, 3)
	}
	return f.Node()
}

// down is DownEncoderBlock2D.
//
//	x      [B H W C]
//	result [B H/2 W/2 C']   [B H W C'] in the last block
func (b builder) down(s layers.Scope, i int, x *G.Node) (*G.Node, error) {
	c := b.cfg.BlockOutChannels[i]
	f := s.On(x)
	for j := range b.cfg.LayersPerBlock {
		f = f.Then("resnets", b.res(j, c))
	}
	if i < len(b.cfg.BlockOutChannels)-1 {
		f = f.ConvDown("downsamplers.0.conv", c, 0)
	}
	return f.Node()
}
