package graphs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// Scheduler takes latents from noise to picture. Names, formulas and the rounding of its schedule are those of diffusers
// 0.34; a scheduler belongs to one run at a time. Each of them makes its steps of a few numbers: see layers.Step.
type Scheduler interface {
	// Name is the diffusers class.
	Name() string
	// SetTimesteps begins a run of n steps.
	SetTimesteps(n int) error
	// Timesteps are what the model is told at each step; some schedulers take more steps than they are asked for.
	Timesteps() []float32
	// InitNoiseSigma is the spread of the noise to start from.
	InitNoiseSigma() float32
	// ScaleModelInput scales latents for the model, in place.
	ScaleModelInput(sample []float32, step int)
	// Step takes the sample past one step, in place. Steps must be taken in order.
	Step(modelOutput, sample []float32, step int, o StepOptions) error
}

// StepOptions is what some schedulers need in a step.
type StepOptions struct {
	Eta   float32             // DDIM
	Noise func(dst []float32) // unit normal noise, as torch.randn
}

// SchedulerConfig is a scheduler_config.json. Keys that are absent mean the defaults of the class that is made
// from it, which may be another than the one it names.
type SchedulerConfig struct {
	Class string
	file  string
	raw   []byte
	// stableDiffusion says that the pipeline is StableDiffusionPipeline, which overrides two keys.
	stableDiffusion bool
}

// ParseSchedulerConfig checks a scheduler_config.json and reports every problem at once. file is its name in
// errors.
func ParseSchedulerConfig(file string, raw []byte) (SchedulerConfig, error) {
	c := hfconfig.Parse(file, raw)
	cfg := SchedulerConfig{Class: c.String("_class_name", ""), file: file, raw: raw}
	if err := c.Err(); err != nil {
		return cfg, err
	}
	if _, ok := schedulerClasses[cfg.Class]; !ok {
		return cfg, &badmodel.Error{File: file, Field: "_class_name", Got: badmodel.Quote(cfg.Class),
			Want: "one of " + strings.Join(classNames(), ", ")}
	}
	_, err := newMethod(cfg, "")
	return cfg, err
}

// shortNames are those of other programs for Stable Diffusion.
var shortNames = []struct {
	name, class string
	karras      bool
}{
	{"ddim", "DDIMScheduler", false},
	{"pndm", "PNDMScheduler", false},
	{"euler", "EulerDiscreteScheduler", false},
	{"euler_a", "EulerAncestralDiscreteScheduler", false},
	{"dpm++2m", "DPMSolverMultistepScheduler", false},
	{"dpm++2m_karras", "DPMSolverMultistepScheduler", true},
	{"lcm", "LCMScheduler", false},
}

// Schedulers lists the short names.
func Schedulers() []string {
	var names []string
	for _, s := range shortNames {
		names = append(names, s.name)
	}
	return names
}

func classNames() []string {
	var names []string
	for _, s := range shortNames {
		if !slices.Contains(names, s.class) {
			names = append(names, s.class)
		}
	}
	return names
}

// schedulerClasses are the defaults that differ between classes, and how each is made.
var schedulerClasses = map[string]struct {
	spacing    string
	beta       [2]float64
	schedule   string
	alphaToOne bool
	clip       bool
	clips      bool // has clip_sample
	make       func(noiseSchedule, *hfconfig.Config, *schedulerParams) method
}{
	"DDIMScheduler":                   {"leading", [2]float64{0.0001, 0.02}, "linear", true, true, true, newDDIM},
	"PNDMScheduler":                   {"leading", [2]float64{0.0001, 0.02}, "linear", false, false, false, newPNDM},
	"EulerDiscreteScheduler":          {"linspace", [2]float64{0.0001, 0.02}, "linear", true, false, false, newEuler},
	"EulerAncestralDiscreteScheduler": {"linspace", [2]float64{0.0001, 0.02}, "linear", true, false, false, newEulerAncestral},
	"DPMSolverMultistepScheduler":     {"linspace", [2]float64{0.0001, 0.02}, "linear", true, false, false, newDPM},
	"LCMScheduler":                    {"leading", [2]float64{0.00085, 0.012}, "scaled_linear", true, false, true, newLCM},
}

// schedulerParams are the keys that schedulers share.
type schedulerParams struct {
	prediction  string // prediction_type
	spacing     string // timestep_spacing
	stepsOffset int    // steps_offset
	alphaToOne  bool   // set_alpha_to_one
	clip        bool   // clip_sample
	clipRange   float64
	karras      bool   // use_karras_sigmas
	finalSigmas string // final_sigmas_type
}

// NewScheduler makes the scheduler of a config, or of another class, given by diffusers' name or a short one,
// with the config's noise schedule.
func NewScheduler(cfg SchedulerConfig, override string) (Scheduler, error) {
	m, err := newMethod(cfg, override)
	if err != nil {
		return nil, err
	}
	return &stepper{method: m}, nil
}

// newMethod is NewScheduler without the state.
func newMethod(cfg SchedulerConfig, override string) (method, error) {
	class, karras := cfg.Class, false
	if override != "" && override != cfg.Class {
		i := slices.IndexFunc(shortNames, func(s struct {
			name, class string
			karras      bool
		}) bool {
			return s.name == override || s.class == override
		})
		if i < 0 {
			return nil, &RequestError{"scheduler", fmt.Sprintf("%q is not one of %s, nor a diffusers class name of these",
				override, strings.Join(Schedulers(), ", "))}
		}
		class, karras = shortNames[i].class, shortNames[i].karras && shortNames[i].name == override
	}
	kind := schedulerClasses[class]
	c := hfconfig.Parse(cfg.file, cfg.raw)
	p := &schedulerParams{
		prediction:  c.String("prediction_type", "epsilon", "epsilon", "v_prediction", "sample"),
		spacing:     c.String("timestep_spacing", kind.spacing, "linspace", "leading", "trailing"),
		stepsOffset: c.Int("steps_offset", 0, 0, 1000),
		alphaToOne:  c.Bool("set_alpha_to_one", kind.alphaToOne),
		clip:        c.Bool("clip_sample", kind.clip),
		clipRange:   c.Float("clip_sample_range", 1, 0, 1e6),
		karras:      c.Bool("use_karras_sigmas", false) || karras,
		finalSigmas: c.String("final_sigmas_type", "zero", "zero", "sigma_min"),
	}
	if cfg.stableDiffusion {
		// StableDiffusionPipeline's constructor changes the config of the model's own scheduler, and others are
		// made from that.
		p.stepsOffset = 1
		if c.Has("clip_sample") || schedulerClasses[cfg.Class].clips {
			p.clip = false
		}
	}
	c.Fixed(map[string][]string{
		"thresholding": {"false"}, "trained_betas": {}, "use_exponential_sigmas": {"false"}, "use_beta_sigmas": {"false"},
		"use_flow_sigmas": {"false"}, "use_lu_lambdas": {"false"},
	})
	n := newNoiseSchedule(c, kind.beta, kind.schedule)
	s := kind.make(n, c, p)
	return s, c.Err()
}
