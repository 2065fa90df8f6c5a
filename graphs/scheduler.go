package graphs

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/layers"
)

// Scheduler takes latents from noise to picture. Names, formulas and rounding are those of diffusers 0.34; a
// scheduler belongs to one run at a time.
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

// method is a scheduler as Note [Steps as numbers] of package layers has it.
type method interface {
	Name() string
	SetTimesteps(n int) error
	Timesteps() []float32
	InitNoiseSigma() float32

	// samples is how many samples the state has: the latents, and what is kept of earlier steps.
	samples() int
	// step is the i-th step of the run, with DDIM's eta.
	step(i int, eta float32) layers.Step
}

// stepper is a method and its state.
type stepper struct {
	method
	state []float32 // [samples N]
}

func (s *stepper) ScaleModelInput(sample []float32, step int) {
	by := s.step(step, 0).InputScale
	for i := range sample {
		sample[i] *= by
	}
}

func (s *stepper) Step(modelOutput, sample []float32, step int, o StepOptions) error {
	if step == 0 {
		s.state = make([]float32, s.samples()*len(sample))
	}
	if len(s.state) != s.samples()*len(sample) || len(modelOutput) != len(sample) {
		return errors.New("a run's steps begin with 0 and are of samples of one size")
	}
	copy(s.state, sample)
	st := s.step(step, o.Eta)
	var noise []float32
	if adds(st) {
		noise = make([]float32, len(sample))
		o.Noise(noise)
	}
	numbers := make([]float32, layers.StepSize)
	st.Coefficients(numbers)
	layers.ApplyStep(numbers, s.state, modelOutput, noise)
	copy(sample, s.state)
	return nil
}

// adds reports whether a step adds noise.
func adds(s layers.Step) bool {
	return slices.ContainsFunc(s.Rows, func(r layers.Row) bool { return r.Noise != 0 })
}

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

// noiseSchedule is how much noise each training timestep has.
type noiseSchedule struct {
	n             int // num_train_timesteps
	schedule      string
	alphasCumprod []float32 // the share of signal, squared
	zeroSNR       bool
}

func newNoiseSchedule(c *hfconfig.Config, beta [2]float64, schedule string) noiseSchedule {
	s := noiseSchedule{
		n:        c.Int("num_train_timesteps", 1000, 1, 100000),
		schedule: c.String("beta_schedule", schedule, "linear", "scaled_linear", "squaredcos_cap_v2"),
		zeroSNR:  c.Bool("rescale_betas_zero_snr", false),
	}
	start, end := c.Float("beta_start", beta[0], 1e-9, 0.999), c.Float("beta_end", beta[1], 1e-9, 0.999)
	betas := s.betas(start, end)
	if s.zeroSNR {
		betas = zeroTerminalSNR(betas)
	}
	s.alphasCumprod = cumprodOfAlphas(betas)
	return s
}

func (s noiseSchedule) betas(start, end float64) []float32 {
	betas := make([]float32, s.n)
	line := func(a, b float64, i int) float32 {
		if s.n == 1 {
			return float32(a)
		}
		return float32(a + (b-a)*float64(i)/float64(s.n-1))
	}
	for i := range betas {
		switch s.schedule {
		case "linear":
			betas[i] = line(start, end, i)
		case "scaled_linear":
			v := line(math.Sqrt(start), math.Sqrt(end), i)
			betas[i] = v * v
		case "squaredcos_cap_v2": // Nichol and Dhariwal 2021
			bar := func(t float64) float64 {
				c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
				return c * c
			}
			betas[i] = float32(min(1-bar(float64(i+1)/float64(s.n))/bar(float64(i)/float64(s.n)), 0.999))
		}
	}
	return betas
}

// cumprodOfAlphas multiplies up 1-beta. torch adds up float32 products in double precision.
func cumprodOfAlphas(betas []float32) []float32 {
	out, prod := make([]float32, len(betas)), 1.0
	for i, b := range betas {
		prod *= float64(1 - b)
		out[i] = float32(prod)
	}
	return out
}

// zeroTerminalSNR changes betas so that nothing of the signal is left at the end (algorithm 1 of arXiv
// 2305.08891).
func zeroTerminalSNR(betas []float32) []float32 {
	bar := cumprodOfAlphas(betas)
	root := make([]float32, len(bar))
	for i, a := range bar {
		root[i] = float32(math.Sqrt(float64(a)))
	}
	first, last := root[0], root[len(root)-1]
	for i := range root {
		root[i] = (root[i] - last) * (first / (first - last))
		bar[i] = root[i] * root[i]
	}
	out := make([]float32, len(betas))
	out[0] = 1 - bar[0]
	for i := 1; i < len(out); i++ {
		out[i] = 1 - bar[i]/bar[i-1]
	}
	return out
}

// sigmas is the noise in units of signal at each training timestep. The variance-exploding schedulers cannot
// take infinity, so with zero SNR the last is that of 2^-24 (as in FP16).
func (s noiseSchedule) sigmas() []float64 {
	out := make([]float64, s.n)
	for i, a := range s.alphasCumprod {
		if s.zeroSNR && i == s.n-1 {
			a = 1.0 / (1 << 24)
		}
		out[i] = float64(float32(math.Sqrt(float64((1 - a) / a))))
	}
	return out
}

// at is alphas_cumprod of a timestep, or what stands before the first.
func (s noiseSchedule) at(t int, alphaToOne bool) float64 {
	switch {
	case t >= 0:
		return float64(s.alphasCumprod[t])
	case alphaToOne:
		return 1
	}
	return float64(s.alphasCumprod[0])
}

// spaced picks n of the training timesteps, from the last down (table 2 of arXiv 2305.08891). In linspace and
// leading more than n points may be laid and the lowest dropped.
func (s noiseSchedule) spaced(spacing string, n, points, offset int) []float64 {
	t := make([]float64, 0, points)
	switch spacing {
	case "linspace":
		for i := points - 1; i >= 0; i-- {
			v := 0.0
			if points > 1 {
				v = float64(i) * (float64(s.n-1) / float64(points-1))
			}
			t = append(t, v)
		}
	case "leading":
		for i := points - 1; i >= 0; i-- {
			t = append(t, float64(i*(s.n/points)+offset))
		}
	case "trailing":
		step := float64(s.n) / float64(n)
		for i := range int(math.Ceil(float64(s.n) / step)) {
			t = append(t, math.RoundToEven(float64(s.n)-float64(i)*step)-1)
		}
		return t
	}
	return t[:n]
}

// checkSteps refuses more steps than the model was trained with, as diffusers does.
func (s noiseSchedule) checkSteps(n int) error {
	if n < 1 || n > s.n {
		return &RequestError{"num_inference_steps", fmt.Sprintf("is %d, want 1 to the scheduler's num_train_timesteps %d", n, s.n)}
	}
	return nil
}

// float32s converts timesteps.
func float32s(t []float64) []float32 {
	out := make([]float32, len(t))
	for i, v := range t {
		out[i] = float32(v)
	}
	return out
}

// split says what sample and model output contribute to the predicted clean sample, as layers.Step has it, and to the
// predicted noise. a and b are the shares of signal and noise in the sample.
func split(prediction string, a, b float64) (clean [3]float64, noise [2]float64) {
	switch prediction {
	case "epsilon":
		return [3]float64{1, -b, a}, [2]float64{0, 1}
	case "sample":
		return [3]float64{0, 1, 1}, [2]float64{1 / b, -a / b}
	}
	return [3]float64{a, -b, 1}, [2]float64{b, a} // v (Salimans and Ho 2022)
}

// clipAt is the clip of a step.
func (p *schedulerParams) clipAt() float64 {
	if p.clip {
		return p.clipRange
	}
	return math.Inf(1)
}

// from is a row of x alone, and others.
func from(x float64, others layers.Row) layers.Row {
	others.State[0] = x
	return others
}
