package pipeline_test

import (
	"regexp"
	"strings"
)

// sentence says what a group of folders is refused with that diffusers runs, or that they run where diffusers refuses
// them. What both refuse is not listed: there the field must be named.
type sentence struct {
	cases string // their names, with * for anything
	want  string // is in the message
	runs  bool   // they run, where diffusers refuses them
}

// lookUp finds the sentence for a folder.
func lookUp(name string) (sentence, bool) {
	for _, s := range sentences {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(s.cases), `\*`, ".*")
		if regexp.MustCompile("^" + pattern + "$").MatchString(name) {
			return s, true
		}
	}
	return sentence{}, false
}

var sentences = []sentence{
	// Settings that no model of these families is known to have.
	{"*unet/config.json center_input_sample true", "center_input_sample: true, want false", false},
	{"*unet/config.json mid_block_type \"UNetMidBlock2DSimpleCrossAttn\"", `mid_block_type: "UNetMidBlock2DSimpleCrossAttn", want one of`, false},
	{"*unet/config.json only_cross_attention *true*", "only_cross_attention: true, want false", false},
	{"*unet/config.json downsample_padding 0", "downsample_padding: 0, want 1", false},
	{"*unet/config.json mid_block_scale_factor 2", "mid_block_scale_factor: 2, want 1", false},
	{"*unet/config.json act_fn \"*e*\"", "act_fn: ", false},
	{"*unet/config.json act_fn \"mish\"", `act_fn: "mish", want "silu"`, false},
	{"sd1: unet/config.json encoder_hid_dim 16", "encoder_hid_dim: 16, want null", false},
	{"*unet/config.json resnet_time_scale_shift \"scale_shift\"", `resnet_time_scale_shift: "scale_shift", want "default"`, false},
	{"*unet/config.json resnet_skip_time_act true", "resnet_skip_time_act: true, want false", false},
	{"*unet/config.json resnet_out_scale_factor 2.0", "resnet_out_scale_factor: 2.0, want 1", false},
	{"*unet/config.json time_embedding_type \"fourier\"", `time_embedding_type: "fourier", want "positional"`, false},
	{"*unet/config.json time_embedding_dim 32", "time_embedding_dim: 32, want null", false},
	{"*unet/config.json time_embedding_act_fn \"gelu\"", `time_embedding_act_fn: "gelu", want one of silu`, false},
	{"*unet/config.json timestep_post_act \"silu\"", `timestep_post_act: "silu", want null`, false},
	{"*unet/config.json time_cond_proj_dim 8", "time_cond_proj_dim: 8, want null", false},
	{"*unet/config.json conv_*_kernel 1", "_kernel: 1, want 3", false},
	{"*unet/config.json attention_type \"gated\"", `attention_type: "gated", want "default"`, false},
	{"*unet/config.json mid_block_only_cross_attention true", "mid_block_only_cross_attention: true, want false", false},
	{"*unet/config.json cross_attention_norm \"layer_norm\"", `cross_attention_norm: "layer_norm", want null`, false},
	{"*unet/config.json addition_embed_type_num_heads 8", "addition_embed_type_num_heads: 8, want 64", false},
	{"sd1: vae/config.json out_channels 1", "out_channels: 1, want red, green and blue", false},
	{"*vae/config.json *_block_types absent", "1 blocks, want one per entry of block_out_channels", false},
	{"*vae/config.json *_block_types [\"*erBlock2D\"]", "_block_types: ", false},
	{"*vae/config.json act_fn \"gelu\"", `act_fn: "gelu", want "silu"`, false},
	{"*vae/config.json latents_mean [*", "latents_mean: [0.1,0.2,0.3,0.4], want null", false},
	{"*vae/config.json latents_std [*", "latents_std: [1.0,2.0,3.0,4.0], want null", false},
	{"*text_encoder*/config.json hidden_act \"gelu_new\"", `hidden_act: "gelu_new", want one of quick_gelu, gelu`, false},
	{"*text_encoder*/config.json hidden_act \"relu\"", `hidden_act: "relu", want one of quick_gelu, gelu`, false},
	{"*text_encoder*/config.json hidden_act \"silu\"", `hidden_act: "silu", want one of quick_gelu, gelu`, false},
	{"sd1: text_encoder/config.json use_attention_mask true", "use_attention_mask: true, want false", false},
	{"sdxl: no first encoder", "text_encoder: no such component", false},
	// transformers makes a layer of random numbers for one that is not there.
	{"sd1: fewer layers than the config has", "num_hidden_layers: 3, want 2", false},
	// Schedulers' settings that are not implemented.
	{"*Scheduler trained_betas [*", "trained_betas: [0.01,0.01", false},
	{"*Scheduler thresholding true", "thresholding: true, want false", false},
	{"*Scheduler interpolation_type \"log_linear\"", `interpolation_type: "log_linear", want "linear"`, false},
	{"*Scheduler use_exponential_sigmas true", "use_exponential_sigmas: true, want false", false},
	{"*Scheduler solver_order 3", "solver_order: 3, want a whole number from 1 to 2", false},
	{"*Scheduler prediction_type \"flow_prediction\"", `prediction_type: "flow_prediction", want one of epsilon`, false},
	{"*Scheduler algorithm_type \"sde-dpmsolver++\"", `algorithm_type: "sde-dpmsolver++", want "dpmsolver++"`, false},
	{"*Scheduler use_lu_lambdas true", "use_lu_lambdas: true, want false", false},
	{"*Scheduler use_flow_sigmas true", "use_flow_sigmas: true, want false", false},
	{"*: scheduler DDPMScheduler in the index*", "scheduler: DDPMScheduler, want one of", false},

	// Settings without effect, and a size of which SDXL's pipeline makes a default that it cannot use.
	{"*unet/config.json dropout null", "", true},
	{"sdxl: unet/config.json sample_size [*", "", true},
	{"*text_encoder/config.json use_return_dict *", "", true},
	{"*text_encoder/config.json pruned_heads null", "", true},
	// Weights that are there are found.
	{"sd1: names of the other library", "", true},
}
