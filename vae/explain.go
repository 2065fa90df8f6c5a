package vae

import (
	"fmt"

	"github.com/euryale-ml/euryale/layers"
)

// Explain says which fields of the config the weights of the decoder contradict. It is asked when Decode finds that
// they do not fit.
func (cfg Config) Explain(p layers.Params) error {
	m := layers.Misfits{Params: p, File: cfg.file}
	m.Dim("latent_channels", cfg.LatentChannels, "decoder.conv_in.weight", 1)
	m.Dim("out_channels", cfg.OutChannels, "decoder.conv_out.weight", 0)
	m.Part("use_post_quant_conv", cfg.PostQuantConv, cfg.PostQuantConv, "post_quant_conv.weight")
	m.Part("mid_block_add_attention", cfg.MidAttention, cfg.MidAttention, "decoder.mid_block.attentions.0.group_norm.weight")
	m.Count("block_out_channels", len(cfg.BlockOutChannels), "decoder.up_blocks.%d.resnets.0.conv1.weight")
	for i := range cfg.BlockOutChannels {
		block := fmt.Sprintf("decoder.up_blocks.%d.", i)
		m.Dim("block_out_channels", cfg.BlockOutChannels[len(cfg.BlockOutChannels)-1-i], block+"resnets.0.conv1.weight", 0)
		// The way up has one more.
		m.Part("layers_per_block", cfg.LayersPerBlock, true, fmt.Sprintf("%sresnets.%d.conv1.weight", block, cfg.LayersPerBlock))
		m.Part("layers_per_block", cfg.LayersPerBlock, false, fmt.Sprintf("%sresnets.%d.conv1.weight", block, cfg.LayersPerBlock+1))
	}
	return m.Err()
}
