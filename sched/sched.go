// Package sched has the schedulers of diffusers 0.34: names, formulas, defaults and rounding are theirs. It imports
// nothing beside the standard library and this module's readers of config files, and knows no tensors.
//
//	cfg, err := sched.ParseConfig("scheduler_config.json", raw)
//	s, err := sched.New(cfg, "")
//	err = s.SetTimesteps(20)
//
// Image-to-image begins at a later step, with a mix of the picture's latents and noise:
//
//	first, err := sched.FirstStep(20, 0.6)
//	err = sched.Begin(s, sched.Run{Steps: 20, First: first, FromImage: true})
//	signal, noise := s.(sched.Mixer).Mix(first)
package sched

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// Scheduler says how latents get from noise to picture: when, and by what numbers. A program's own type can be one. A
// scheduler belongs to one run at a time; the samplings of one run see it in the order SetTimesteps, Timesteps, Step.
// All that are here are a Beginner and a Mixer, too.
type Scheduler interface {
	// Name is the diffusers class, or what errors and files call another.
	Name() string
	// SetTimesteps begins a run of n steps. A number that it cannot do is an *Error.
	SetTimesteps(n int) error
	// Timesteps are what the model is told at each step; some schedulers take more steps than they are asked for.
	Timesteps() []float32
	// InitNoiseSigma is the spread of the noise to start from.
	InitNoiseSigma() float32
	// Samples is how many samples the state has, 1 to MaxState: the latents, and what is kept of earlier steps.
	Samples() int
	// Step is the i-th step of the run, with a row for each sample: from 0, or from the step that the run begins with. eta
	// is DDIM's.
	Step(i int, eta float32) Step
}

// Error is a request that a scheduler cannot do.
type Error struct {
	Field   string // in diffusers' spelling: num_inference_steps, timesteps, sigmas, begin_index, strength, scheduler
	Problem string
}

func (e *Error) Error() string { return e.Field + " " + e.Problem }

// Config is a scheduler_config.json and how it is read; see Note [Which keys count].
type Config struct {
	Class    string // the diffusers class that reads the file
	file     string
	raw      []byte
	pipeline string // the class of the pipeline that holds the scheduler, or ""
}

// ParseConfig checks a scheduler_config.json for the class that it names, and reports every problem at once.
// file is its name in errors.
func ParseConfig(file string, raw []byte) (Config, error) {
	c := hfconfig.Parse(file, raw)
	cfg := Config{Class: c.String("_class_name", ""), file: file, raw: raw}
	if err := c.Err(); err != nil {
		return cfg, err
	}
	_, err := New(cfg, "")
	return cfg, err
}

// PipelineConfig is the scheduler_config.json of a pipeline, not checked yet. The class is that of model_index.json,
// whatever the file names, and the pipeline's constructor may change keys.
func PipelineConfig(pipeline, class, file string, raw []byte) Config {
	// Names with Flax are those that the same classes had for JAX.
	return Config{Class: strings.TrimPrefix(class, "Flax"), file: file, raw: raw, pipeline: pipeline}
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

// Names lists the short names of schedulers.
func Names() []string {
	var names []string
	for _, s := range shortNames {
		names = append(names, s.name)
	}
	return names
}

// Classes lists the classes of diffusers that there are.
func Classes() []string {
	var names []string
	for _, s := range shortNames {
		if !slices.Contains(names, s.class) {
			names = append(names, s.class)
		}
	}
	return names
}

// New makes the scheduler of a config, or another that is made from it, named as diffusers' class or by a short name.
// Another is what diffusers' from_config makes of the config, also where it is of the same class.
func New(cfg Config, override string) (Scheduler, error) {
	class, karras := cfg.Class, false
	if override != "" {
		i := slices.IndexFunc(shortNames, func(s shortName) bool { return s.name == override || s.class == override })
		if i < 0 {
			return nil, &Error{"scheduler", fmt.Sprintf("%q is not one of %s, nor a diffusers class name of these",
				override, strings.Join(Names(), ", "))}
		}
		class, karras = shortNames[i].class, shortNames[i].karras && shortNames[i].name == override
	}
	kind, ok := schedulerClasses[class]
	if !ok {
		e := &badmodel.Error{File: cfg.file, Field: "_class_name", Got: badmodel.Quote(cmp.Or(class, "missing")),
			Want: "one of " + strings.Join(Classes(), ", ")}
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
