// Package vae builds AutoencoderKL, the variational autoencoder of Stable Diffusion, as Gorgonia graphs.
// Structure and names are those of diffusers 0.34.
package vae

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/internal/stack"
)

// Config is the part of a diffusers AutoencoderKL config.json that this package reads. Unknown keys are
// ignored; known keys with values that are not implemented are errors.
type Config struct {
	InChannels       int   // in_channels
	OutChannels      int   // out_channels
	LatentChannels   int   // latent_channels
	BlockOutChannels []int // block_out_channels: one per resolution, highest first
	LayersPerBlock   int   // layers_per_block
	NormGroups       int   // norm_num_groups
	SampleSize       int   // sample_size: side of a tile of pixels
	ScalingFactor    float32
	ShiftFactor      float32 // shift_factor, which the pipelines of Stable Diffusion 1, 2 and XL do not apply
	ForceUpcast      bool    // force_upcast: never compute in fp16
	QuantConv        bool    // use_quant_conv
	PostQuantConv    bool    // use_post_quant_conv
	MidAttention     bool    // mid_block_add_attention

	file string
}

// ParseConfig reads config.json and reports every problem at once. file is its name in errors.
func ParseConfig(file string, raw []byte) (Config, error) {
	c := hfconfig.ParseDiffusers(file, raw)
	c.Optional("shift_factor")
	cfg := Config{
		InChannels:       c.Int("in_channels", 3, 1, 256),
		OutChannels:      c.Int("out_channels", 3, 1, 256),
		LatentChannels:   c.Int("latent_channels", 4, 1, 256),
		BlockOutChannels: c.Ints("block_out_channels", []int{64}, 1, 1<<14),
		LayersPerBlock:   c.Int("layers_per_block", 1, 1, 64),
		NormGroups:       c.Int("norm_num_groups", 32, 1, 1<<12),
		SampleSize:       c.Ints("sample_size", []int{32}, 8, 8192)[0], // of a height and width the first, as in diffusers
		ScalingFactor:    float32(c.Float("scaling_factor", 0.18215, 1e-6, 1e6)),
		ShiftFactor:      float32(c.Float("shift_factor", 0, -1e6, 1e6)),
		ForceUpcast:      c.Bool("force_upcast", true),
		QuantConv:        c.Bool("use_quant_conv", true),
		PostQuantConv:    c.Bool("use_post_quant_conv", true),
		MidAttention:     c.Bool("mid_block_add_attention", true),
		file:             file,
	}
	c.Fixed(map[string][]string{"act_fn": {`"silu"`, `"swish"`}, "latents_mean": {}, "latents_std": {}})
	for _, blocks := range []struct{ field, class string }{
		{"down_block_types", "DownEncoderBlock2D"}, {"up_block_types", "UpDecoderBlock2D"},
	} {
		got := c.Strings(blocks.field, []string{blocks.class}, blocks.class)
		if n := len(cfg.BlockOutChannels); len(got) != n {
			c.Bad(blocks.field, fmt.Sprintf("%d blocks", len(got)), fmt.Sprintf("one per entry of block_out_channels: %d", n))
		}
	}
	for _, ch := range cfg.BlockOutChannels {
		if ch%cfg.NormGroups != 0 {
			c.Bad("block_out_channels", fmt.Sprint(ch), fmt.Sprintf("a multiple of norm_num_groups %d", cfg.NormGroups))
		}
	}
	if len(cfg.BlockOutChannels) > 8 {
		c.Bad("block_out_channels", fmt.Sprintf("%d entries", len(cfg.BlockOutChannels)), "at most 8")
	}
	return cfg, stack.With(c.Err())
}

// Scale is the number of pixels along one side of a latent.
func (cfg Config) Scale() int { return 1 << (len(cfg.BlockOutChannels) - 1) }
