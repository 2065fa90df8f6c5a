package graphs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// Scheduler takes latents from noise to picture. Names, formulas and the rounding of its schedule are those of
// diffusers 0.34; a scheduler belongs to one run at a time. Each of them makes its steps of a few numbers: see
// layers.Step.
type Scheduler interface {
	// Name is the diffusers class.
	Name() string
	// SetTimesteps begins a run of n steps. A number with which diffusers fails is a *RequestError.
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
	Noise func(dst []float32) // unit normal noise, as torch.randn; asked for in each step in which diffusers draws it
}

// SchedulerConfig is a scheduler_config.json and how it is read; see Note [Which keys count].
type SchedulerConfig struct {
	Class    string // the diffusers class that reads the file
	file     string
	raw      []byte
	pipeline string // the class of the pipeline that holds the scheduler, or ""
}

// ParseSchedulerConfig checks a scheduler_config.json for the class that it names, and reports every problem at once.
// file is its name in errors.
func ParseSchedulerConfig(file string, raw []byte) (SchedulerConfig, error) {
	c := hfconfig.Parse(file, raw)
	cfg := SchedulerConfig{Class: c.String("_class_name", ""), file: file, raw: raw}
	if err := c.Err(); err != nil {
		return cfg, err
	}
	_, err := newMethod(cfg, "")
	return cfg, err
}

// PipelineScheduler is the scheduler_config.json of a pipeline, not checked yet. The class is that of model_index.json,
// whatever the file names, and the pipeline's constructor may change keys.
func PipelineScheduler(pipeline, class, file string, raw []byte) SchedulerConfig {
	// Names with Flax are those that the same classes had for JAX.
	return SchedulerConfig{Class: strings.TrimPrefix(class, "Flax"), file: file, raw: raw, pipeline: pipeline}
}

// shortName is a name of a scheduler in other programs for Stable Diffusion.
type shortName struct {
	name, class string
	karras      bool
}

var shortNames = []shortName{
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

// NewScheduler makes the scheduler of a config, or another that is made from it, named as diffusers' class or by a
// short name. Another is what diffusers' from_config makes of the config, also where it is of the same class.
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
	if override != "" {
		i := slices.IndexFunc(shortNames, func(s shortName) bool { return s.name == override || s.class == override })
		if i < 0 {
			return nil, &RequestError{"scheduler", fmt.Sprintf("%q is not one of %s, nor a diffusers class name of these",
				override, strings.Join(Schedulers(), ", "))}
		}
		class, karras = shortNames[i].class, shortNames[i].karras && shortNames[i].name == override
	}
	kind, ok := schedulerClasses[class]
	if !ok {
		e := &badmodel.Error{File: cfg.file, Field: "_class_name", Got: badmodel.Quote(cmp.Or(class, "missing")),
			Want: "one of " + strings.Join(classNames(), ", ")}
		if cfg.pipeline != "" {
			e.File, e.Field = "model_index.json", "scheduler"
			e.Want += "; another scheduler can be asked for"
		}
		return nil, e
	}
	c := cfg.fields(kind, override == "")
	c.Keep(kind.keys())
	if karras {
		c.Set("use_karras_sigmas", "true")
	}
	m := kind.make(c)
	return m, c.Err()
}
