// Package unet builds UNet2DConditionModel, the denoiser of Stable Diffusion 1.x, 2.x and XL, as a Gorgonia
// graph. Structure and names are those of diffusers 0.34.
package unet

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/internal/stack"
)

// Config is the part of a diffusers UNet2DConditionModel config.json that this package reads. Unknown keys are
// ignored; known keys with values that are not implemented are errors, so a model never runs with a setting
// silently dropped.
type Config struct {
	Version          string // _diffusers_version: of the diffusers that wrote the config; empty if it does not say
	InChannels       int    // in_channels
	OutChannels      int    // out_channels
	SampleSize       []int  // sample_size: side of the latents by default, or height and width; nil if there is none
	BlockOutChannels []int  // block_out_channels: one per resolution, highest first
	DownBlockTypes   []string
	MidBlockType     string // mid_block_type: UNetMidBlock2DCrossAttn, UNetMidBlock2D or empty for no middle block
	UpBlockTypes     []string
	LayersPerBlock   []int // layers_per_block: one per block

	// Heads is the number of attention heads per block. diffusers calls it attention_head_dim for
	// historical reasons and writes either one number or one per block.
	Heads []int
	// DownDepths and UpDepths are the transformer layers of each attention on the way down and up, by block:
	// transformer_layers_per_block and reverse_transformer_layers_per_block.
	DownDepths, UpDepths [][]int
	CrossAttentionDim    int  // cross_attention_dim
	UseLinearProjection  bool // use_linear_projection
	NormGroups           int  // norm_num_groups
	NormEps              float32
	TimeActivation       bool // time_embedding_act_fn is "silu": one more on the sum of the time embeddings
	FlipSinToCos         bool // flip_sin_to_cos
	FreqShift            float32
	TextTime             bool // addition_embed_type is "text_time"
	AdditionTimeEmbedDim int  // addition_time_embed_dim
	AdditionInputDim     int  // projection_class_embeddings_input_dim

	file string
}

// optional are the keys whose null means what their absence means; null in another is refused, as it is by diffusers.
var optional = []string{
	"_diffusers_version", "sample_size", "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim",
	"time_embedding_act_fn", "reverse_transformer_layers_per_block",
}

// known are the keys of which one value, or a few, are implemented.
var known = map[string][]string{
	"act_fn":                         {`"silu"`, `"swish"`},
	"addition_embed_type_num_heads":  {"64", "null"},
	"attention_type":                 {`"default"`, "null"},
	"center_input_sample":            {"false", "null"},
	"class_embed_type":               {},
	"class_embeddings_concat":        {"false", "null"},
	"conv_in_kernel":                 {"3"},
	"conv_out_kernel":                {"3"},
	"cross_attention_norm":           {},
	"downsample_padding":             {"1"},
	"dual_cross_attention":           {"false", "null"},
	"encoder_hid_dim":                {},
	"encoder_hid_dim_type":           {},
	"mid_block_only_cross_attention": {"false", "null"},
	"mid_block_scale_factor":         {"1", "1.0"},
	"num_class_embeds":               {},
	"num_attention_heads":            {},
	"resnet_out_scale_factor":        {"1", "1.0", "null"},
	"resnet_skip_time_act":           {"false", "null"},
	"resnet_time_scale_shift":        {`"default"`},
	"time_cond_proj_dim":             {},
	"time_embedding_dim":             {},
	"time_embedding_type":            {`"positional"`},
	"timestep_post_act":              {},
}

// ParseConfig reads config.json and reports every problem at once. file is its name in errors.
func ParseConfig(file string, raw []byte) (Config, error) {
	c := hfconfig.ParseDiffusers(file, raw)
	c.Optional(optional...)
	cfg := Config{
		Version:          c.String("_diffusers_version", ""),
		InChannels:       c.Int("in_channels", 4, 1, 256),
		OutChannels:      c.Int("out_channels", 4, 1, 256),
		SampleSize:       c.Ints("sample_size", nil, 1, 1024),
		BlockOutChannels: c.Ints("block_out_channels", []int{320, 640, 1280, 1280}, 2, 1<<14),
		DownBlockTypes: c.Strings("down_block_types", []string{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
			"CrossAttnDownBlock2D", "DownBlock2D"}, "CrossAttnDownBlock2D", "DownBlock2D"),
		UpBlockTypes: c.Strings("up_block_types", []string{"UpBlock2D", "CrossAttnUpBlock2D",
			"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}, "CrossAttnUpBlock2D", "UpBlock2D"),
		UseLinearProjection:  c.Bool("use_linear_projection", false),
		NormGroups:           c.Int("norm_num_groups", 32, 1, 1<<12),
		NormEps:              float32(c.Float("norm_eps", 1e-5, 0, 1)),
		TimeActivation:       c.String("time_embedding_act_fn", "", "silu", "swish") != "",
		FlipSinToCos:         c.Bool("flip_sin_to_cos", true),
		FreqShift:            float32(c.Float("freq_shift", 0, 0, 1)),
		TextTime:             c.String("addition_embed_type", "", "text_time") == "text_time",
		AdditionTimeEmbedDim: c.Int("addition_time_embed_dim", 0, 0, 1<<14),
		AdditionInputDim:     c.Int("projection_class_embeddings_input_dim", 0, 0, 1<<16),
		file:                 file,
	}
	c.Fixed(known)
	if c.Null("mid_block_type") {
		cfg.MidBlockType = ""
	} else {
		cfg.MidBlockType = c.String("mid_block_type", crossMid, crossMid, plainMid)
	}
	n := len(cfg.BlockOutChannels)
	cfg.LayersPerBlock = c.PerBlock("layers_per_block", 2, n, 1, 64)
	cfg.Heads = c.PerBlock("attention_head_dim", 8, n, 1, 1<<12)
	cfg.readDepths(c)
	// One width for all blocks: the text has one.
	widths := c.PerBlock("cross_attention_dim", 1280, n, 1, 1<<16)
	cfg.CrossAttentionDim = widths[0]
	if slices.Min(widths) != slices.Max(widths) {
		c.Bad("cross_attention_dim", fmt.Sprint(widths), "the same number for each block")
	}
	for _, only := range c.Bools("only_cross_attention", []bool{false}) {
		if only {
			c.Bad("only_cross_attention", "true", "false, the only value implemented")
		}
	}
	if k := len(cfg.SampleSize); k > 2 {
		c.Bad("sample_size", fmt.Sprintf("%d numbers", k), "one, or height and width")
	}
	cfg.validate(c)
	return cfg, stack.With(c.Err())
}

const (
	crossMid = "UNetMidBlock2DCrossAttn"
	plainMid = "UNetMidBlock2D"
)

// readDepths reads the transformer layers of each attention: a number for all, one for each block, or, where the way
// up is given too, a list for each block.
func (cfg *Config) readDepths(c *hfconfig.Config) {
	const down, up = "transformer_layers_per_block", "reverse_transformer_layers_per_block"
	n := len(cfg.BlockOutChannels)
	cfg.DownDepths = c.Lists(down, 1, cfg.LayersPerBlock, 0, 64)
	layersUp := reversed(cfg.LayersPerBlock)
	for i := range layersUp {
		layersUp[i]++
	}
	if c.Has(up) {
		cfg.UpDepths = c.Lists(up, 1, layersUp, 0, 64)
		return
	}
	if c.Nested(down) {
		c.Bad(down, "a list for a block", "a number for each block, or "+up+" too")
	}
	cfg.UpDepths = make([][]int, n)
	for i := range n {
		depths := cfg.DownDepths[n-1-i]
		cfg.UpDepths[i] = slices.Repeat(depths[:1], layersUp[i])
	}
}

// validate checks what no field can tell alone.
func (cfg Config) validate(c *hfconfig.Config) {
	n := len(cfg.BlockOutChannels)
	if len(cfg.DownBlockTypes) != n {
		c.Bad("down_block_types", fmt.Sprintf("%d blocks", len(cfg.DownBlockTypes)), fmt.Sprintf("one per entry of block_out_channels: %d", n))
	}
	if len(cfg.UpBlockTypes) != n {
		c.Bad("up_block_types", fmt.Sprintf("%d blocks", len(cfg.UpBlockTypes)), fmt.Sprintf("one per entry of block_out_channels: %d", n))
	}
	for i, ch := range cfg.BlockOutChannels {
		if ch%cfg.NormGroups != 0 || ch%2 != 0 {
			c.Bad("block_out_channels", fmt.Sprint(ch), fmt.Sprintf("an even multiple of norm_num_groups %d", cfg.NormGroups))
		}
		if ch%cfg.Heads[i] != 0 {
			c.Bad("attention_head_dim", fmt.Sprint(cfg.Heads[i]), fmt.Sprintf("a number of heads that divides the block's %d channels", ch))
		}
	}
	if cfg.TextTime && (cfg.AdditionTimeEmbedDim < 2 || cfg.AdditionTimeEmbedDim%2 != 0) {
		c.Bad("addition_time_embed_dim", fmt.Sprint(cfg.AdditionTimeEmbedDim), "an even number from 2")
	}
	if cfg.TextTime && cfg.PooledDim() < 1 {
		c.Bad("projection_class_embeddings_input_dim", fmt.Sprint(cfg.AdditionInputDim), "more than 6 x addition_time_embed_dim")
	}
}

// PooledDim is the width of the pooled text embedding a text_time model takes.
func (cfg Config) PooledDim() int { return cfg.AdditionInputDim - 6*cfg.AdditionTimeEmbedDim }

// reversed is the order of the up blocks.
func reversed(s []int) []int {
	r := slices.Clone(s)
	slices.Reverse(r)
	return r
}
