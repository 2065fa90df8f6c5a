package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// Families are the models that a Folder can be of.
var Families = []string{"sd15", "sd21", "sdxl"}

// part is one component of a family.
type part struct{ name, library, class, config string }

const (
	sdVAE = `{"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
		"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
		"in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": %d,
		"scaling_factor": %g, "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}`
	clipText = `{"architectures": ["%s"], "model_type": "clip_text_model", "vocab_size": 49408, "max_position_embeddings": 77,
		"hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d, "hidden_act": "%s",
		"projection_dim": %d, "layer_norm_eps": 1e-05, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}`
	sdUNet = `{"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": %s, "block_out_channels": [320, 640, 1280, 1280],
		"center_input_sample": false, "cross_attention_dim": %d, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
		"CrossAttnDownBlock2D", "DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
		"layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
		"sample_size": %d, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
		"use_linear_projection": %t}`
	xlUNet = `{"_class_name": "UNet2DConditionModel", "act_fn": "silu", "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
		"attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
		"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "in_channels": 4, "layers_per_block": 2,
		"norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "projection_class_embeddings_input_dim": 2816, "sample_size": 128,
		"transformer_layers_per_block": [1, 2, 10], "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
		"use_linear_projection": true}`
	sdScheduler = `{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
		"clip_sample": false, "num_train_timesteps": 1000, "prediction_type": "%s", "set_alpha_to_one": false, "steps_offset": 1,
		"timestep_spacing": "leading"}`
)

// parts are the components of a family, with the configs of the published models.
func parts(family string) (class string, list []part, err error) {
	text := func(class string, a ...any) string { return fmt.Sprintf(clipText, append([]any{class}, a...)...) }
	tokenizer := func(name string) part { return part{name, "transformers", "CLIPTokenizer", ""} }
	sd := func(unetConfig, textConfig, prediction string, side int) []part {
		return []part{
			{"scheduler", "diffusers", "DDIMScheduler", fmt.Sprintf(sdScheduler, prediction)},
			{"text_encoder", "transformers", "CLIPTextModel", textConfig}, tokenizer("tokenizer"),
			{"unet", "diffusers", "UNet2DConditionModel", unetConfig},
			{"vae", "diffusers", "AutoencoderKL", fmt.Sprintf(sdVAE, side, 0.18215)},
		}
	}
	switch family {
	case "sd15":
		return "StableDiffusionPipeline", sd(fmt.Sprintf(sdUNet, "8", 768, 64, false),
			text("CLIPTextModel", 768, 3072, 12, 12, "quick_gelu", 768), "epsilon", 512), nil
	case "sd21":
		return "StableDiffusionPipeline", sd(fmt.Sprintf(sdUNet, "[5, 10, 20, 20]", 1024, 96, true),
			text("CLIPTextModel", 1024, 4096, 23, 16, "gelu", 512), "v_prediction", 768), nil
	case "sdxl":
		return "StableDiffusionXLPipeline", []part{
			{"scheduler", "diffusers", "DDIMScheduler", fmt.Sprintf(sdScheduler, "epsilon")},
			{"text_encoder", "transformers", "CLIPTextModel", text("CLIPTextModel", 768, 3072, 12, 12, "quick_gelu", 768)},
			{"text_encoder_2", "transformers", "CLIPTextModelWithProjection", text("CLIPTextModelWithProjection", 1280, 5120, 32, 20, "gelu", 1280)},
			tokenizer("tokenizer"), tokenizer("tokenizer_2"),
			{"unet", "diffusers", "UNet2DConditionModel", xlUNet},
			{"vae", "diffusers", "AutoencoderKL", fmt.Sprintf(sdVAE, 1024, 0.13025)},
		}, nil
	}
	return "", nil, fmt.Errorf("family %q is not one of %s", family, strings.Join(Families, ", "))
}

// small has the sizes that make a family small, by component: the same blocks and as many, with few channels. A
// picture of 64 pixels (SDXL: 128) takes a second on any machine.
var small = map[string]map[string]map[string]any{
	"sd15": {
		"text_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 64, "vocab_size": 1024},
		"unet":         {"block_out_channels": []int{32, 64, 64, 64}, "cross_attention_dim": 64, "attention_head_dim": 2, "sample_size": 8},
		"vae":          {"block_out_channels": []int{32, 32, 64, 64}, "sample_size": 64},
	},
	"sd21": {
		"text_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 64, "vocab_size": 1024},
		"unet":         {"block_out_channels": []int{32, 64, 64, 64}, "cross_attention_dim": 64, "attention_head_dim": []int{1, 2, 2, 2}, "sample_size": 8},
		"vae":          {"block_out_channels": []int{32, 32, 64, 64}, "sample_size": 64},
	},
	"sdxl": {
		"text_encoder":   {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 32, "vocab_size": 1024},
		"text_encoder_2": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 64, "vocab_size": 1024},
		"unet": {"block_out_channels": []int{32, 64, 64}, "cross_attention_dim": 96, "attention_head_dim": []int{1, 2, 2}, "sample_size": 16,
			"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6*8 + 64},
		"vae": {"block_out_channels": []int{32, 32, 64, 64}, "sample_size": 128},
	},
}

// shrunk is a config with other sizes.
func shrunk(config string, sizes map[string]any) (string, error) {
	if sizes == nil {
		return config, nil
	}
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(config), &fields); err != nil {
		return "", err
	}
	maps.Copy(fields, sizes)
	raw, err := json.Marshal(fields)
	return string(raw), err
}
