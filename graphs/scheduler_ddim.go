package graphs

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/layers"
)

// ddim is DDIMScheduler (Song et al. 2020, arXiv 2010.02502).
type ddim struct {
	noiseSchedule
	*schedulerParams
	steps     int
	timesteps []float64
}

func newDDIM(n noiseSchedule, _ *hfconfig.Config, p *schedulerParams) method {
	return &ddim{noiseSchedule: n, schedulerParams: p}
}

func (s *ddim) Name() string            { return "DDIMScheduler" }
func (s *ddim) Timesteps() []float32    { return float32s(s.timesteps) }
func (s *ddim) InitNoiseSigma() float32 { return 1 }
func (s *ddim) samples() int            { return 1 }

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

// step is formula (12) of the paper; without eta nothing random is added.
func (s *ddim) step(i int, eta float32) layers.Step {
	t := int(s.timesteps[i])
	prev := t - s.n/s.steps
	// In float32, as torch: with eta 1 the direction is the root of a difference that is nearly nothing.
	alpha, alphaPrev := float32(s.at(t, s.alphaToOne)), float32(s.at(prev, s.alphaToOne))
	beta := 1 - alpha
	variance := float32((1-alphaPrev)/beta) * (1 - alpha/alphaPrev)
	sigma := eta * sqrt(variance)

	clean, noise := split(s.prediction, float64(sqrt(alpha)), float64(sqrt(beta)))
	direction := float64(sqrt(max(0, 1-alphaPrev-float32(sigma*sigma))))
	row := layers.Row{Clean: float64(sqrt(alphaPrev)), Output: direction * noise[1], Noise: float64(sigma)}
	return layers.Step{InputScale: 1, Clean: clean, Clip: s.clipAt(), Rows: []layers.Row{from(direction*noise[0], row)}}
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// lcm is LCMScheduler (Luo et al. 2023, arXiv 2310.04378).
type lcm struct {
	noiseSchedule
	*schedulerParams
	originalSteps int     // original_inference_steps
	scaling       float64 // timestep_scaling
	timesteps     []float64
}

func newLCM(n noiseSchedule, c *hfconfig.Config, p *schedulerParams) method {
	return &lcm{noiseSchedule: n, schedulerParams: p, originalSteps: c.Int("original_inference_steps", 50, 1, n.n),
		scaling: c.Float("timestep_scaling", 10, 1e-3, 1e6)}
}

func (s *lcm) Name() string            { return "LCMScheduler" }
func (s *lcm) Timesteps() []float32    { return float32s(s.timesteps) }
func (s *lcm) InitNoiseSigma() float32 { return 1 }
func (s *lcm) samples() int            { return 1 }

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

func (s *lcm) step(i int, _ float32) layers.Step {
	t := s.timesteps[i]
	const sigmaData = 0.5
	scaled := t * s.scaling
	skip := sigmaData * sigmaData / (scaled*scaled + sigmaData*sigmaData)
	keep := scaled / math.Sqrt(scaled*scaled+sigmaData*sigmaData)
	alpha := s.at(int(t), s.alphaToOne)
	clean, _ := split(s.prediction, math.Sqrt(alpha), math.Sqrt(1-alpha))
	next, noise := 1.0, 0.0
	if i+1 < len(s.timesteps) {
		alpha = s.at(int(s.timesteps[i+1]), s.alphaToOne)
		next, noise = math.Sqrt(alpha), math.Sqrt(1-alpha)
	}
	row := from(next*skip, layers.Row{Clean: next * keep, Noise: noise})
	return layers.Step{InputScale: 1, Clean: clean, Clip: s.clipAt(), Rows: []layers.Row{row}}
}
