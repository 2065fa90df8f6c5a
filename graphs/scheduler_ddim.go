package graphs

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// ddim is DDIMScheduler (Song et al. 2020, arXiv 2010.02502).
type ddim struct {
	noiseSchedule
	*schedulerParams
	steps     int
	timesteps []float64
}

func newDDIM(n noiseSchedule, _ *hfconfig.Config, p *schedulerParams) Scheduler {
	return &ddim{noiseSchedule: n, schedulerParams: p}
}

func (s *ddim) Name() string                   { return "DDIMScheduler" }
func (s *ddim) Timesteps() []float32           { return float32s(s.timesteps) }
func (s *ddim) InitNoiseSigma() float32        { return 1 }
func (s *ddim) ScaleModelInput([]float32, int) {}

func (s *ddim) SetTimesteps(n int) error {
	s.steps = n
	if err := s.checkSteps(n); err != nil {
		return err
	}
	s.timesteps = s.spaced(s.spacing, n, n, s.stepsOffset)
	for i := range s.timesteps {
		s.timesteps[i] = math.RoundToEven(s.timesteps[i])
	}
	return s.checkTimesteps(s.timesteps)
}

// checkTimesteps refuses timesteps past the end, which an offset can give.
func (s noiseSchedule) checkTimesteps(t []float64) error {
	for _, v := range t {
		if v < 0 || int(v) >= s.n {
			return &RequestError{"num_inference_steps", fmt.Sprintf("%d gives the timestep %g, beyond the scheduler's %d", len(t), v, s.n)}
		}
	}
	return nil
}

// Step is formula (12) of the paper; without eta nothing random is added.
func (s *ddim) Step(out, sample []float32, step int, o StepOptions) error {
	t := int(s.timesteps[step])
	prev := t - s.n/s.steps
	// In float32, as torch: with eta 1 the direction is the root of a difference that is nearly nothing.
	alpha, alphaPrev := float32(s.at(t, s.alphaToOne)), float32(s.at(prev, s.alphaToOne))
	beta := 1 - alpha
	variance := float32((1-alphaPrev)/beta) * (1 - alpha/alphaPrev)
	sigma := o.Eta * sqrt(variance)

	a, b := sqrt(alpha), sqrt(beta)
	aPrev, direction := sqrt(alphaPrev), sqrt(max(0, 1-alphaPrev-float32(sigma*sigma)))
	limit := float32(s.clipRange)
	for i := range sample {
		x0, eps := split(s.prediction, out[i], sample[i], a, b)
		if s.clip {
			x0 = min(max(x0, -limit), limit)
		}
		sample[i] = aPrev*x0 + direction*eps
	}
	if o.Eta > 0 {
		addNoise(sample, o, sigma)
	}
	return nil
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

func addNoise(sample []float32, o StepOptions, sigma float32) {
	noise := make([]float32, len(sample))
	o.Noise(noise)
	for i, v := range noise {
		sample[i] += sigma * v
	}
}

// lcm is LCMScheduler (Luo et al. 2023, arXiv 2310.04378).
type lcm struct {
	noiseSchedule
	*schedulerParams
	originalSteps int     // original_inference_steps
	scaling       float64 // timestep_scaling
	timesteps     []float64
}

func newLCM(n noiseSchedule, c *hfconfig.Config, p *schedulerParams) Scheduler {
	return &lcm{noiseSchedule: n, schedulerParams: p, originalSteps: c.Int("original_inference_steps", 50, 1, n.n),
		scaling: c.Float("timestep_scaling", 10, 1e-3, 1e6)}
}

func (s *lcm) Name() string                   { return "LCMScheduler" }
func (s *lcm) Timesteps() []float32           { return float32s(s.timesteps) }
func (s *lcm) InitNoiseSigma() float32        { return 1 }
func (s *lcm) ScaleModelInput([]float32, int) {}

func (s *lcm) SetTimesteps(n int) error {
	if n < 1 || n > s.originalSteps {
		return &RequestError{"num_inference_steps", fmt.Sprintf("is %d, want 1 to the scheduler's original_inference_steps %d", n, s.originalSteps)}
	}
	every := s.n / s.originalSteps
	s.timesteps = nil
	for i := range n {
		// Evenly spaced in the timesteps of distillation, from the last down.
		from := int(math.Floor(float64(i) * (float64(s.originalSteps) / float64(n))))
		s.timesteps = append(s.timesteps, float64((s.originalSteps-from)*every-1))
	}
	return nil
}

func (s *lcm) Step(out, sample []float32, step int, o StepOptions) error {
	t := int(s.timesteps[step])
	prev := t
	if step+1 < len(s.timesteps) {
		prev = int(s.timesteps[step+1])
	}
	alpha, alphaPrev := s.at(t, s.alphaToOne), s.at(prev, s.alphaToOne)
	const sigmaData = 0.5
	scaled := float64(t) * s.scaling
	skip := float32(sigmaData * sigmaData / (scaled*scaled + sigmaData*sigmaData))
	keep := float32(scaled / math.Sqrt(scaled*scaled+sigmaData*sigmaData))
	a, b, limit := float32(math.Sqrt(alpha)), float32(math.Sqrt(1-alpha)), float32(s.clipRange)
	for i := range sample {
		x0, _ := split(s.prediction, out[i], sample[i], a, b)
		if s.clip {
			x0 = min(max(x0, -limit), limit)
		}
		sample[i] = keep*x0 + skip*sample[i]
	}
	if step+1 == len(s.timesteps) {
		return nil
	}
	for i := range sample {
		sample[i] *= float32(math.Sqrt(alphaPrev))
	}
	addNoise(sample, o, float32(math.Sqrt(1-alphaPrev)))
	return nil
}
