package sched

import (
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// Note [Which keys count]
//
// diffusers makes a scheduler in three places, and a key of scheduler_config.json does not count in each of them alike.
//
// from_pretrained: the class is that of model_index.json. Its constructor takes the keys that it knows by name and its
// own defaults for the others; keys of other classes are kept and have no effect. A key of value null is passed as
// None.
//
// The pipeline's constructor: StableDiffusionPipeline has steps_offset be 1 and clip_sample false, whether the file had
// another value or the class another default. StableDiffusionXLPipeline changes nothing.
//
// from_config(pipe.scheduler.config), which is what naming another scheduler means here: the new class takes what the
// file had, with the pipeline's changes, of the keys that it knows. Keys that the file did not have take the new
// class's defaults: what the pipeline changed there, and defaults of the first class, are lost.

// schedulerClass is a class of diffusers.
type schedulerClass struct {
	make func(*hfconfig.Config) Scheduler
	// own are the constructor's keys beside the common ones.
	own string
	// clips says that the class has clip_sample on by default.
	clips bool
}

// commonKeys are keys of every constructor.
const commonKeys = "num_train_timesteps beta_start beta_end beta_schedule trained_betas prediction_type " +
	"timestep_spacing steps_offset "

var schedulerClasses = map[string]schedulerClass{
	"DDIMScheduler": {newDDIM, "clip_sample clip_sample_range set_alpha_to_one rescale_betas_zero_snr thresholding " +
		"dynamic_thresholding_ratio sample_max_value", true},
	"PNDMScheduler": {newPNDM, "skip_prk_steps set_alpha_to_one", false},
	"EulerDiscreteScheduler": {newEuler, "interpolation_type use_karras_sigmas use_exponential_sigmas use_beta_sigmas " +
		"sigma_min sigma_max timestep_type rescale_betas_zero_snr final_sigmas_type", false},
	"EulerAncestralDiscreteScheduler": {newEulerAncestral, "rescale_betas_zero_snr", false},
	// sigma_min and sigma_max are no keys of this constructor: the class looks for them among the keys that it only
	// keeps.
	"DPMSolverMultistepScheduler": {newDPM, "solver_order thresholding dynamic_thresholding_ratio sample_max_value " +
		"algorithm_type solver_type lower_order_final euler_at_final use_karras_sigmas use_exponential_sigmas use_beta_sigmas " +
		"use_lu_lambdas use_flow_sigmas flow_shift final_sigmas_type lambda_min_clipped variance_type rescale_betas_zero_snr " +
		"sigma_min sigma_max", false},
	"LCMScheduler": {newLCM, "original_inference_steps clip_sample clip_sample_range set_alpha_to_one thresholding " +
		"dynamic_thresholding_ratio sample_max_value timestep_scaling rescale_betas_zero_snr", false},
}

func (k schedulerClass) keys() []string { return strings.Fields(commonKeys + k.own) }

// rewritten are values that a class's constructor replaces in its config, so that another class made from that sees the
// second.
var rewritten = map[string]map[string][2][]string{
	"DPMSolverMultistepScheduler":  {"solver_type": {{"logrho", "bh1", "bh2"}, {"midpoint"}}},
	"DPMSolverSinglestepScheduler": {"solver_type": {{"logrho", "bh1", "bh2"}, {"midpoint"}}},
	"DEISMultistepScheduler":       {"solver_type": {{"midpoint", "heun", "bh1", "bh2"}, {"logrho"}}, "algorithm_type": {{"dpmsolver", "dpmsolver++"}, {"deis"}}},
	"UniPCMultistepScheduler":      {"solver_type": {{"midpoint", "heun", "logrho"}, {"bh2"}}},
}

// fields are what a class takes the config to hold. own says that it is the model's own scheduler, and not made from
// that.
func (cfg Config) fields(kind schedulerClass, own bool) *hfconfig.Config {
	c := hfconfig.Parse(cfg.file, cfg.raw)
	c.Names("_class_name") // must be one or several, which does not matter
	// Keys that are listed here had been defaults when the file was written, and are taken as absent.
	for _, name := range c.Names("_use_default_values") {
		c.Forget(name)
	}
	if cfg.pipeline == "StableDiffusionPipeline" {
		if own || c.Present("steps_offset") {
			c.Set("steps_offset", "1")
		}
		if c.Is("clip_sample", "true") || own && kind.clips && !c.Present("clip_sample") {
			c.Set("clip_sample", "false")
		}
	}
	if !own {
		for key, change := range rewritten[cfg.Class] {
			if slices.ContainsFunc(change[0], func(v string) bool { return c.Is(key, `"`+v+`"`) }) {
				c.Set(key, `"`+change[1][0]+`"`)
			}
		}
	}
	return c
}

// schedulerParams are keys that schedulers share.
type schedulerParams struct {
	prediction  string // prediction_type
	spacing     string // timestep_spacing
	stepsOffset int    // steps_offset
}

// readParams reads them. predictions are those that the class has, the default first.
func readParams(c *hfconfig.Config, spacing string, predictions ...string) schedulerParams {
	p := schedulerParams{
		prediction: c.String("prediction_type", predictions[0], predictions...),
		spacing:    c.String("timestep_spacing", spacing, "linspace", "leading", "trailing"),
	}
	// Only this spacing has an offset; what the key holds with the others does not matter.
	if p.spacing == "leading" {
		p.stepsOffset = c.Int("steps_offset", 0, -maxTrainTimesteps, maxTrainTimesteps)
	}
	return p
}

// clipping is the keys of the classes that may clip the predicted clean sample.
type clipping struct {
	clip  bool    // clip_sample
	limit float64 // clip_sample_range
}

func readClipping(c *hfconfig.Config, def bool) clipping {
	s := clipping{clip: c.Bool("clip_sample", def)}
	if s.clip {
		s.limit = c.Float("clip_sample_range", 1, 0, 1e6)
	}
	// Its two parameters mean nothing without it.
	c.Fixed(map[string][]string{"thresholding": {"false", "null"}})
	return s
}
