package sched

import (
	"fmt"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// ddim is DDIMScheduler (Song et al. 2020, arXiv 2010.02502).
type ddim struct {
	noiseSchedule
	schedulerParams
	clipping
	alphaToOne bool // set_alpha_to_one
	steps      int
	timesteps  []float64
}

func newDDIM(c *hfconfig.Config) Scheduler {
	return &ddim{
		noiseSchedule:   readNoise(c, 0.0001, 0.02, "linear"),
		schedulerParams: readParams(c, "leading", "epsilon", "v_prediction", "sample"),
		clipping:        readClipping(c, true),
		alphaToOne:      c.Bool("set_alpha_to_one", true),
	}
}

func (s *ddim) Name() string            { return "DDIMScheduler" }
func (s *ddim) Timesteps() []float32    { return float32s(s.timesteps) }
func (s *ddim) InitNoiseSigma() float32 { return 1 }
func (s *ddim) Samples() int            { return 1 }

func (s *ddim) SetTimesteps(n int) error { return s.Begin(Run{Steps: n}) }

func (s *ddim) Begin(r Run) error {
	n, err := r.spaced(s.Name())
	if err == nil {
		err = s.checkStepsTrained(n)
	}
	if err != nil {
		return err
	}
	s.steps = n
	s.timesteps = rounded(s.spaced(s.spacing, n, n, s.n, s.stepsOffset))
	return s.checkIndices(r, s.timesteps)
}

func (s *ddim) Mix(i int) (signal, noise float64) { return s.mix(s.timesteps[i]) }

// step is formula (12) of the paper; without eta nothing random is added.
func (s *ddim) Step(i int, eta float32) Step {
	t := int(s.timesteps[i])
	prev := t - s.n/s.steps
	// In float32, as torch: with eta 1 what is left for the direction is a difference that is nearly nothing, and so
	// is what rounding makes of it.
	alpha, alphaPrev := float32(s.at(t)), float32(s.after(prev, s.alphaToOne))
	beta, betaPrev := 1-alpha, 1-alphaPrev
	variance := float32(betaPrev/beta) * (1 - alpha/alphaPrev)
	sigma := eta * sqrt(variance)
	left := betaPrev - float32(sigma*sigma)
	if s.zeroSNR { // whose alphas are not torch's to the bit, so that the rounding is of no use: the same, multiplied out
		share := float64(eta) * float64(eta) * (1 - float64(alpha)/float64(alphaPrev)) / float64(beta)
		left = float32(float64(betaPrev) * (1 - share))
	}
	direction := float64(sqrt(max(0, left)))

	clean, noise := split(s.prediction, float64(sqrt(alpha)), float64(sqrt(beta)))
	row := Row{State: latents(direction * noise[0]), Output: direction * noise[1], Clean: float64(sqrt(alphaPrev)),
		Noise: float64(sigma)}
	return Step{InputScale: 1, Clean: clean, Clip: s.clipAt(), Rows: []Row{row}, Draws: eta > 0}
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// lcm is LCMScheduler (Luo et al. 2023, arXiv 2310.04378). Its timestep_spacing and steps_offset mean nothing.
type lcm struct {
	noiseSchedule
	clipping
	prediction    string
	alphaToOne    bool    // set_alpha_to_one, which counts for listed timesteps below 0
	originalSteps int     // original_inference_steps
	scaling       float64 // timestep_scaling
	timesteps     []float64
}

func newLCM(c *hfconfig.Config) Scheduler {
	return &lcm{
		noiseSchedule: readNoise(c, 0.00085, 0.012, "scaled_linear"),
		clipping:      readClipping(c, false),
		prediction:    c.String("prediction_type", "epsilon", "epsilon", "v_prediction", "sample"),
		alphaToOne:    truth(c, "set_alpha_to_one"),
		originalSteps: c.Int("original_inference_steps", 50, 1, maxTrainTimesteps),
		scaling:       c.Float("timestep_scaling", 10, 1e-3, 1e6),
	}
}

// truth is what Python makes of a key whose default is true. Any value will do: the key means nothing but for timesteps
// that a caller lists.
func truth(c *hfconfig.Config, field string) bool {
	if !c.Has(field) {
		return !c.Null(field)
	}
	is := func(v string) bool { return c.Is(field, v) }
	return !slices.ContainsFunc([]string{"false", "0", "0.0", `""`, "[]", "{}"}, is)
}

func (s *lcm) Name() string            { return "LCMScheduler" }
func (s *lcm) Timesteps() []float32    { return float32s(s.timesteps) }
func (s *lcm) InitNoiseSigma() float32 { return 1 }
func (s *lcm) Samples() int            { return 1 }

func (s *lcm) SetTimesteps(n int) error { return s.Begin(Run{Steps: n}) }

func (s *lcm) Begin(r Run) error {
	n, err := r.Count()
	if err != nil {
		return err
	}
	switch {
	case r.Sigmas != nil:
		err = r.untaken(s.Name())
	case s.originalSteps > s.n:
		err = stepsError("cannot be chosen: the scheduler's original_inference_steps %d is more than its "+
			"num_train_timesteps %d", s.originalSteps, s.n)
	case r.Timesteps != nil:
		err = s.checkListed(r.Timesteps)
	case n > s.originalSteps:
		err = stepsError("is %d, want 1 to the scheduler's original_inference_steps %d", n, s.originalSteps)
	}
	if err != nil {
		return err
	}
	s.timesteps = r.whole()
	if r.Timesteps == nil {
		s.timesteps = s.distilled(n)
	}
	return s.checkIndices(r, s.timesteps)
}

// distilled are n of the timesteps of distillation, evenly spaced among them, from the last down.
func (s *lcm) distilled(n int) (t []float64) {
	every := s.n / s.originalSteps
	for i := range n {
		from := int(math.Floor(float64(i) * (float64(s.originalSteps) / float64(n))))
		t = append(t, float64((s.originalSteps-from)*every-1))
	}
	return t
}

// checkListed refuses timesteps that diffusers refuses. Others than those of distillation it takes, with a warning.
func (s *lcm) checkListed(t []int) error {
	for i := 1; i < len(t); i++ {
		if t[i] >= t[i-1] {
			return &Error{"timesteps", fmt.Sprintf("is %d at index %d after %d, want a descending order", t[i], i, t[i-1])}
		}
	}
	if t[0] >= s.n {
		return &Error{"timesteps", fmt.Sprintf("begins with %d, and the scheduler has 0 to %d", t[0], s.n-1)}
	}
	return nil
}

func (s *lcm) Mix(i int) (signal, noise float64) { return s.mix(s.timesteps[i]) }

func (s *lcm) Step(i int, _ float32) Step {
	t := s.timesteps[i]
	const sigmaData = 0.5
	scaled := t * s.scaling
	skip := sigmaData * sigmaData / (scaled*scaled + sigmaData*sigmaData)
	keep := scaled / math.Sqrt(scaled*scaled+sigmaData*sigmaData)
	alpha := s.at(int(t))
	clean, _ := split(s.prediction, math.Sqrt(alpha), math.Sqrt(1-alpha))
	next, noise, last := 1.0, 0.0, i+1 == len(s.timesteps)
	if !last {
		alpha = s.after(int(s.timesteps[i+1]), s.alphaToOne)
		next, noise = math.Sqrt(alpha), math.Sqrt(1-alpha)
	}
	row := Row{State: latents(next * skip), Clean: next * keep, Noise: noise}
	return Step{InputScale: 1, Clean: clean, Clip: s.clipAt(), Rows: []Row{row}, Draws: !last}
}
