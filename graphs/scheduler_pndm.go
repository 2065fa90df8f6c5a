package graphs

import (
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// pndm is PNDMScheduler (Liu et al. 2022, arXiv 2202.09778): a linear multistep method, after three
// Runge-Kutta steps unless skip_prk_steps is set.
type pndm struct {
	noiseSchedule
	*schedulerParams
	skipPRK   bool
	steps     int
	prk       int // timesteps that belong to Runge-Kutta steps
	timesteps []float64

	outputs [][]float32 // the last model outputs, newest at the end
	sum     []float32   // of the Runge-Kutta step under way
	start   []float32   // the sample a Runge-Kutta or the first multistep began with
}

func newPNDM(n noiseSchedule, c *hfconfig.Config, p *schedulerParams) Scheduler {
	s := &pndm{noiseSchedule: n, schedulerParams: p, skipPRK: c.Bool("skip_prk_steps", false)}
	if p.prediction == "sample" {
		c.Bad("prediction_type", p.prediction, "epsilon or v_prediction with PNDMScheduler")
	}
	return s
}

func (s *pndm) Name() string                   { return "PNDMScheduler" }
func (s *pndm) Timesteps() []float32           { return float32s(s.timesteps) }
func (s *pndm) InitNoiseSigma() float32        { return 1 }
func (s *pndm) ScaleModelInput([]float32, int) {}

func (s *pndm) SetTimesteps(n int) error {
	if err := s.checkSteps(n); err != nil {
		return err
	}
	s.steps, s.outputs, s.sum, s.start = n, nil, nil, nil
	t := s.spaced(s.spacing, n, n, s.stepsOffset)
	for i := range t {
		t[i] = math.RoundToEven(t[i])
	}
	if err := s.checkTimesteps(t); err != nil {
		return err
	}
	if s.skipPRK {
		// The second timestep comes twice: the first multistep is a predictor, then a corrector.
		s.prk = 0
		if n > 1 {
			t = slices.Insert(slices.Clone(t), 1, t[1])
		}
		s.timesteps = t
		return nil
	}
	return s.setPRK(t)
}

// setPRK replaces the first three timesteps by four evaluations each, halfway ones twice.
func (s *pndm) setPRK(t []float64) error {
	first := slices.Clone(t[:min(4, len(t))])
	slices.Reverse(first)
	var points []float64 // ascending, each followed by the halfway point above it
	half := float64(s.n / s.steps / 2)
	for _, v := range first {
		points = append(points, v, v+half)
	}
	points = points[:len(points)-1]
	var twice []float64
	for _, v := range points {
		twice = append(twice, v, v)
	}
	twice = twice[1 : len(twice)-1]
	slices.Reverse(twice)
	s.prk = len(twice)
	s.timesteps = append(twice, t[min(3, len(t)):]...)
	return s.checkTimesteps(s.timesteps)
}

func (s *pndm) Step(out, sample []float32, step int, _ StepOptions) error {
	if step < s.prk {
		s.rungeKutta(out, sample, step)
	} else {
		s.multistep(out, sample, step)
	}
	return nil
}

func (s *pndm) rungeKutta(out, sample []float32, step int) {
	diff := 0
	if step%2 == 0 {
		diff = s.n / s.steps / 2
	}
	prev := int(s.timesteps[step]) - diff
	t := int(s.timesteps[step/4*4])
	if step%4 == 0 {
		s.sum, s.start = make([]float32, len(out)), slices.Clone(sample)
		s.outputs = append(s.outputs, slices.Clone(out))
	}
	share := float32(1.0 / 3)
	if step%4 == 0 || step%4 == 3 {
		share = 1.0 / 6
	}
	for i, v := range out {
		s.sum[i] += share * v
	}
	from := out
	if step%4 == 3 {
		from = s.sum
	}
	s.transfer(sample, s.start, from, t, prev)
}

func (s *pndm) multistep(out, sample []float32, step int) {
	count := step - s.prk
	t := int(s.timesteps[step])
	prev := t - s.n/s.steps
	if count != 1 || !s.skipPRK {
		if n := len(s.outputs); n > 3 {
			s.outputs = s.outputs[n-3:]
		}
		s.outputs = append(s.outputs, slices.Clone(out))
	} else {
		prev, t = t, t+s.n/s.steps
	}
	e := func(k, i int) float32 { return s.outputs[len(s.outputs)-k][i] }
	from, mix := sample, make([]float32, len(out))
	switch len(s.outputs) {
	case 1:
		copy(mix, out)
		if count == 0 {
			s.start = slices.Clone(sample)
			break
		}
		for i := range mix {
			mix[i] = (out[i] + e(1, i)) / 2
		}
		from = s.start
	case 2:
		for i := range mix {
			mix[i] = (3*e(1, i) - e(2, i)) / 2
		}
	case 3:
		for i := range mix {
			mix[i] = (23*e(1, i) - 16*e(2, i) + 5*e(3, i)) / 12
		}
	default:
		for i := range mix {
			mix[i] = (55*e(1, i) - 59*e(2, i) + 37*e(3, i) - 9*e(4, i)) / 24
		}
	}
	s.transfer(sample, from, mix, t, prev)
}

// transfer is formula (9) of the paper: the sample at prev from the one at t and the noise.
func (s *pndm) transfer(dst, sample, noise []float32, t, prev int) {
	alpha, alphaPrev := s.at(t, s.alphaToOne), s.at(prev, s.alphaToOne)
	beta, betaPrev := 1-alpha, 1-alphaPrev
	a, b := float32(math.Sqrt(alpha)), float32(math.Sqrt(beta))
	scale := float32(math.Sqrt(alphaPrev / alpha))
	shift := float32((alphaPrev - alpha) / (alpha*math.Sqrt(betaPrev) + math.Sqrt(alpha*beta*alphaPrev)))
	for i, v := range noise {
		if s.prediction == "v_prediction" {
			v = a*v + b*sample[i]
		}
		dst[i] = scale*sample[i] - shift*v
	}
}
