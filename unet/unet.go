package unet

import (
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
)

// Inputs are the leaves a caller binds before each run.
type Inputs struct {
	Sample   *G.Node // [B H W In]     noisy latents
	Timestep *G.Node // [B 1]
	Context  *G.Node // [B S Cross]    text embeddings
	Pooled   *G.Node // [B Pooled]     pooled text embedding; text_time models only
	TimeIDs  *G.Node // [B 6]          original size, crop, target size; text_time models only
}

// NewInputs adds the leaves for latents of height h and width w and texts of s tokens.
func NewInputs(sc layers.Scope, cfg Config, b, h, w, s int) Inputs {
	in := Inputs{
		Sample:   sc.Input("sample", G.Float32, b, h, w, cfg.InChannels),
		Timestep: sc.Input("timestep", G.Float32, b, 1),
		Context:  sc.Input("encoder_hidden_states", G.Float32, b, s, cfg.CrossAttentionDim),
	}
	if cfg.TextTime {
		in.Pooled = sc.Input("text_embeds", G.Float32, b, cfg.PooledDim())
		in.TimeIDs = sc.Input("time_ids", G.Float32, b, 6)
	}
	return in
}

// builder carries what every block needs.
type builder struct {
	cfg     Config
	root    layers.Scope
	seams   Seams
	temb    *G.Node // [B 4*C0], activated
	context *G.Node
}

// Build adds the UNet to the graph.
//
//	in     Inputs
//	result [B H W Out]
func Build(s layers.Scope, cfg Config, in Inputs) (*G.Node, error) {
	return BuildWith(s, cfg, in, Seams{})
}

// BuildWith is Build with seams.
func BuildWith(s layers.Scope, cfg Config, in Inputs, seams Seams) (_ *G.Node, err error) {
	defer stack.Add(&err)
	temb, err := timeEmbedding(s, cfg, in)
	if err != nil {
		return nil, err
	}
	b := builder{cfg: cfg, root: s, seams: seams, temb: temb, context: in.Context}
	h, skips, err := b.wayDown(in.Sample)
	if err == nil {
		h, err = b.middle(h)
	}
	if err == nil {
		skips, err = b.skipped(skips)
	}
	for i := 0; i < len(cfg.BlockOutChannels) && err == nil; i++ {
		h, skips, err = b.up(s.Sub("up_blocks", i), i, h, skips)
	}
	if err != nil {
		return nil, err
	}
	out := s.On(h).GroupNorm("conv_norm_out", cfg.NormGroups, cfg.NormEps).SiLU().Conv("conv_out", cfg.OutChannels, 3)
	if err := s.Err(); err != nil {
		return nil, err
	}
	return out.Node()
}

// wayDown adds conv_in and the blocks on the way down. Every result is kept for the way up.
//
//	x      [B H W In]
//	h      [B H' W' C]   the last of skips
func (b builder) wayDown(x *G.Node) (h *G.Node, skips []*G.Node, err error) {
	if h, err = b.root.On(x).Conv("conv_in", b.cfg.BlockOutChannels[0], 3).Node(); err == nil {
		h, err = b.result(b.root.Sub("conv_in"), h)
	}
	if err != nil {
		return nil, nil, err
	}
	skips = []*G.Node{h}
	for i := range b.cfg.BlockOutChannels {
		if h, skips, err = b.down(b.root.Sub("down_blocks", i), i, h, skips); err != nil {
			return nil, nil, err
		}
	}
	return h, skips, b.checkResiduals(len(skips))
}

// middle adds the middle block, if there is one, and the residuals behind it.
//
//	x, result [B H W C]
func (b builder) middle(h *G.Node) (*G.Node, error) {
	var err error
	if b.cfg.MidBlockType != "" {
		if h, err = b.mid(b.root.Sub("mid_block"), h); err != nil {
			return nil, err
		}
		if h, err = b.intrablock(len(b.cfg.BlockOutChannels), h); err != nil {
			return nil, err
		}
	}
	return b.residual(b.root.Sub("mid_block_additional_residual"), h, b.seams.MidBlock)
}

// timeEmbedding embeds the timestep and, in text_time models, the pooled text and the sizes.
//
//	result [B 4*C0]   activated, as every ResBlock wants it
func timeEmbedding(s layers.Scope, cfg Config, in Inputs) (*G.Node, error) {
	c := cfg.BlockOutChannels[0]
	emb := s.On(in.Timestep).Timesteps(c, cfg.FlipSinToCos, cfg.FreqShift).
		Linear("time_embedding.linear_1", 4*c).SiLU().Linear("time_embedding.linear_2", 4*c)
	if cfg.TextTime {
		ids := s.On(in.TimeIDs).Timesteps(cfg.AdditionTimeEmbedDim, cfg.FlipSinToCos, cfg.FreqShift)
		emb = emb.Add(s.On(in.Pooled).Concat(ids).
			Linear("add_embedding.linear_1", 4*c).SiLU().Linear("add_embedding.linear_2", 4*c))
	}
	if cfg.TimeActivation {
		emb = emb.SiLU()
	}
	return emb.SiLU().Node()
}

func (b builder) res(s layers.Scope, x *G.Node, out int) (*G.Node, error) {
	h, err := layers.ResBlock(s, layers.ResBlockConfig{Out: out, Groups: b.cfg.NormGroups, Eps: b.cfg.NormEps}, x, b.temb)
	if err != nil {
		return nil, err
	}
	return b.result(s, h)
}

// down is DownBlock2D or CrossAttnDownBlock2D. Every result is kept for the way up.
//
//	x      [B H W C]
//	result [B H/2 W/2 C']   [B H W C'] in the last block
func (b builder) down(s layers.Scope, i int, h *G.Node, skips []*G.Node) (*G.Node, []*G.Node, error) {
	var err error
	c, cross := b.cfg.BlockOutChannels[i], b.cfg.hasAttention(i)
	for j := range b.cfg.LayersPerBlock[i] {
		h, err = b.res(s.Sub("resnets", j), h, c)
		if err == nil && cross {
			h, err = b.transformer(s.Sub("attentions", j), h, b.cfg.Heads[i], b.cfg.DownDepths[i][j])
		}
		if err == nil && cross && j == b.cfg.LayersPerBlock[i]-1 {
			h, err = b.intrablock(i, h)
		}
		if err != nil {
			return nil, nil, err
		}
		skips = append(skips, h)
	}
	if i < len(b.cfg.BlockOutChannels)-1 {
		if h, err = s.On(h).ConvDown("downsamplers.0.conv", c, 1).Node(); err == nil {
			h, err = b.result(s.Sub("downsamplers", 0), h)
		}
		if err != nil {
			return nil, nil, err
		}
		skips = append(skips, h)
	}
	if !cross {
		// diffusers adds it in place, and so to what the way up takes back, too.
		if h, err = b.intrablock(i, h); err != nil {
			return nil, nil, err
		}
		skips[len(skips)-1] = h
	}
	return h, skips, nil
}

// hasAttention reports whether block i on the way down has attention.
func (cfg Config) hasAttention(i int) bool { return cfg.DownBlockTypes[i] == "CrossAttnDownBlock2D" }

// mid is UNetMidBlock2DCrossAttn or, of one residual block alone, UNetMidBlock2D.
//
//	x, result [B H W C]
func (b builder) mid(s layers.Scope, h *G.Node) (*G.Node, error) {
	n := len(b.cfg.BlockOutChannels) - 1
	c := b.cfg.BlockOutChannels[n]
	h, err := b.res(s.Sub("resnets", 0), h, c)
	if err != nil || b.cfg.MidBlockType == plainMid {
		return h, err
	}
	h, err = b.transformer(s.Sub("attentions", 0), h, b.cfg.Heads[n], b.cfg.DownDepths[n][0])
	if err != nil {
		return nil, err
	}
	return b.res(s.Sub("resnets", 1), h, c)
}

// up is UpBlock2D or CrossAttnUpBlock2D: each step first takes back one result of the way down.
//
//	x      [B H W C]
//	result [B 2H 2W C']   [B H W C'] in the last block
func (b builder) up(s layers.Scope, i int, h *G.Node, skips []*G.Node) (*G.Node, []*G.Node, error) {
	c := reversed(b.cfg.BlockOutChannels)[i]
	heads, depths := reversed(b.cfg.Heads)[i], b.cfg.UpDepths[i]
	for j, depth := range depths {
		skip := skips[len(skips)-1]
		skips = skips[:len(skips)-1]
		x, err := s.Sub("resnets", j).On(h).Concat(s.On(skip)).Node()
		if err != nil {
			return nil, nil, err
		}
		if h, err = b.res(s.Sub("resnets", j), x, c); err != nil {
			return nil, nil, err
		}
		if b.cfg.UpBlockTypes[i] == "CrossAttnUpBlock2D" {
			if h, err = b.transformer(s.Sub("attentions", j), h, heads, depth); err != nil {
				return nil, nil, err
			}
		}
	}
	if i == len(b.cfg.BlockOutChannels)-1 {
		return h, skips, nil
	}
	// The next block's first skip has the size to reach: odd sizes were rounded up on the way down.
	to := skips[len(skips)-1].Shape()
	h, err := s.On(h).UpsampleTo(to[1], to[2]).Conv("upsamplers.0.conv", c, 3).Node()
	if err == nil {
		h, err = b.result(s.Sub("upsamplers", 0), h)
	}
	return h, skips, err
}
