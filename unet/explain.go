package unet

import (
	"fmt"

	"github.com/euryale-ml/euryale/layers"
)

// Explain says which fields of the config the weights contradict. It is asked when Build finds that they do not fit.
func (cfg Config) Explain(p layers.Params) error {
	m := layers.Misfits{Params: p, File: cfg.file}
	m.Dim("in_channels", cfg.InChannels, "conv_in.weight", 1)
	m.Dim("out_channels", cfg.OutChannels, "conv_out.weight", 0)
	m.Count("block_out_channels", len(cfg.BlockOutChannels), "down_blocks.%d.resnets.0.conv1.weight")
	middle := cfg.MidBlockType
	if middle == "" {
		middle = "null"
	}
	m.Part("mid_block_type", middle, cfg.MidBlockType != "", "mid_block.resnets.0.conv1.weight")
	if cfg.MidBlockType != "" {
		m.Part("mid_block_type", middle, cfg.MidBlockType == crossMid, "mid_block.resnets.1.conv1.weight")
	}
	m.Part("addition_embed_type", map[bool]string{true: "text_time", false: "null"}[cfg.TextTime], cfg.TextTime, "add_embedding.linear_1.weight")
	if cfg.TextTime {
		m.Dim("projection_class_embeddings_input_dim", cfg.AdditionInputDim, "add_embedding.linear_1.weight", 1)
	}
	for i, c := range cfg.BlockOutChannels {
		block := fmt.Sprintf("down_blocks.%d.", i)
		m.Dim("block_out_channels", c, block+"resnets.0.conv1.weight", 0)
		m.Count("layers_per_block", cfg.LayersPerBlock[i], block+"resnets.%d.conv1.weight")
		cross := cfg.hasAttention(i)
		m.Part("down_block_types", cfg.DownBlockTypes[i], cross, block+"attentions.0.proj_in.weight")
		if !cross {
			continue
		}
		rank := 4
		if cfg.UseLinearProjection {
			rank = 2
		}
		m.Rank("use_linear_projection", cfg.UseLinearProjection, rank, block+"attentions.0.proj_in.weight")
		m.Count("transformer_layers_per_block", cfg.DownDepths[i][0], block+"attentions.0.transformer_blocks.%d.attn1.to_q.weight")
		m.Dim("cross_attention_dim", cfg.CrossAttentionDim, block+"attentions.0.transformer_blocks.0.attn2.to_k.weight", 1)
	}
	return m.Err()
}
