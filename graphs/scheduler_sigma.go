package graphs

import (
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/layers"
)

// sigmaSteps is what the schedulers that count noise in sigmas share.
type sigmaSteps struct {
	noiseSchedule
	*schedulerParams
	timesteps []float64
	sigmas    []float32 // one more than timesteps
}

func (s *sigmaSteps) Timesteps() []float32 { return float32s(s.timesteps) }

// interpolate sets sigmas at the timesteps, last being what follows the final step.
func (s *sigmaSteps) interpolate(last float64) {
	all := s.noiseSchedule.sigmas()
	s.sigmas = s.sigmas[:0]
	for _, t := range s.timesteps {
		s.sigmas = append(s.sigmas, float32(interp(t, all)))
	}
	s.sigmas = append(s.sigmas, float32(last))
}

// interp is y at x between its neighbours.
func interp(x float64, y []float64) float64 {
	x = min(max(x, 0), float64(len(y)-1))
	i := min(int(x), len(y)-2)
	if i < 0 {
		return y[0]
	}
	return y[i] + (y[i+1]-y[i])*(x-float64(i))
}

// lastSigma is what final_sigmas_type says.
func (s *sigmaSteps) lastSigma() float64 {
	if s.finalSigmas == "sigma_min" {
		return s.noiseSchedule.sigmas()[0]
	}
	return 0
}

// karrasSigmas are n sigmas from high to low, evenly spaced in their seventh root (formula (5) of Karras et al.
// 2022, arXiv 2206.00364).
func karrasSigmas(high, low float64, n int) []float64 {
	const rho = 7
	a, b := math.Pow(high, 1.0/rho), math.Pow(low, 1.0/rho)
	out := make([]float64, n)
	for i := range out {
		ramp := 0.0
		if n > 1 {
			ramp = float64(i) / float64(n-1)
		}
		out[i] = math.Pow(a+ramp*(b-a), rho)
	}
	return out
}

// timestepOf is the timestep, between whole ones, whose sigma this is.
func timestepOf(sigma float64, all []float64) float64 {
	at := math.Log(max(sigma, 1e-10))
	low := 0
	for i, v := range all {
		if at >= math.Log(v) {
			low = i
		}
	}
	low = min(low, len(all)-2)
	a, b := math.Log(all[low]), math.Log(all[low+1])
	w := min(max((a-at)/(a-b), 0), 1)
	return (1-w)*float64(low) + w*float64(low+1)
}

// cleanSample says what sample and model output contribute to the predicted clean sample, in the sigma parametrisation.
func cleanSample(prediction string, sigma float64) [3]float64 {
	switch prediction {
	case "epsilon":
		return [3]float64{1, -sigma, 1}
	case "sample":
		return [3]float64{0, 1, 1}
	}
	v := sigma*sigma + 1
	return [3]float64{1 / v, -sigma / math.Sqrt(v), 1}
}

// euler is EulerDiscreteScheduler and EulerAncestralDiscreteScheduler (Karras et al. 2022, algorithm 2 without
// churn; ancestral sampling is k-diffusion's).
type euler struct {
	sigmaSteps
	ancestral bool
}

func newEuler(n noiseSchedule, c *hfconfig.Config, p *schedulerParams) method {
	c.Fixed(map[string][]string{"interpolation_type": {`"linear"`}, "timestep_type": {`"discrete"`}, "sigma_min": {}, "sigma_max": {}})
	return &euler{sigmaSteps: sigmaSteps{noiseSchedule: n, schedulerParams: p}}
}

func newEulerAncestral(n noiseSchedule, c *hfconfig.Config, p *schedulerParams) method {
	p.karras = false // it has no such option
	if p.prediction == "sample" {
		c.Bad("prediction_type", p.prediction, "epsilon or v_prediction with EulerAncestralDiscreteScheduler")
	}
	return &euler{sigmaSteps{noiseSchedule: n, schedulerParams: p}, true}
}

func (s *euler) Name() string {
	if s.ancestral {
		return "EulerAncestralDiscreteScheduler"
	}
	return "EulerDiscreteScheduler"
}

func (s *euler) SetTimesteps(n int) error {
	if err := s.checkSteps(n); err != nil {
		return err
	}
	s.timesteps = s.spaced(s.spacing, n, n, s.stepsOffset)
	last := s.lastSigma()
	if s.ancestral {
		last = 0
	}
	s.interpolate(last)
	if s.karras {
		sigmas := karrasSigmas(float64(s.sigmas[0]), float64(s.sigmas[n-1]), n)
		all := s.noiseSchedule.sigmas()
		for i, v := range sigmas {
			s.sigmas[i], s.timesteps[i] = float32(v), timestepOf(v, all)
		}
	}
	return nil
}

func (s *euler) InitNoiseSigma() float32 {
	high := slices.Max(s.sigmas)
	if s.spacing == "leading" {
		return float32(math.Sqrt(float64(high)*float64(high) + 1))
	}
	return high
}

func (s *euler) samples() int { return 1 }

// step goes along the derivative, the noise in units of sigma, from sigma to the next.
func (s *euler) step(i int, _ float32) layers.Step {
	from, to := float64(s.sigmas[i]), float64(s.sigmas[i+1])
	up := 0.0
	if s.ancestral {
		up = math.Sqrt(to * to * (from*from - to*to) / (from * from))
		to = math.Sqrt(to*to - up*up)
	}
	row := layers.Row{Clean: 1 - to/from, Noise: up}
	row.State[0] = to / from
	return layers.Step{InputScale: float32(1 / math.Sqrt(from*from+1)), Clean: cleanSample(s.prediction, from), Clip: math.Inf(1),
		Rows: []layers.Row{row}}
}

// dpm is DPMSolverMultistepScheduler: DPM-Solver++ of order one or two (Lu et al. 2022, arXiv 2211.01095).
type dpm struct {
	sigmaSteps
	order           int // solver_order
	heun            bool
	lowerOrderFinal bool
	eulerAtFinal    bool
}

func newDPM(n noiseSchedule, c *hfconfig.Config, p *schedulerParams) method {
	c.Fixed(map[string][]string{"algorithm_type": {`"dpmsolver++"`}, "variance_type": {}, "lambda_min_clipped": {"-Infinity", `"-inf"`}})
	return &dpm{
		sigmaSteps: sigmaSteps{noiseSchedule: n, schedulerParams: p}, order: c.Int("solver_order", 2, 1, 2),
		heun:            c.String("solver_type", "midpoint", "midpoint", "heun") == "heun",
		lowerOrderFinal: c.Bool("lower_order_final", true), eulerAtFinal: c.Bool("euler_at_final", false),
	}
}

func (s *dpm) Name() string            { return "DPMSolverMultistepScheduler" }
func (s *dpm) InitNoiseSigma() float32 { return 1 }

func (s *dpm) SetTimesteps(n int) error {
	if err := s.checkSteps(n); err != nil {
		return err
	}
	s.timesteps = s.spaced(s.spacing, n, n+1, s.stepsOffset)
	for i := range s.timesteps {
		s.timesteps[i] = math.RoundToEven(s.timesteps[i])
	}
	if err := s.checkTimesteps(s.timesteps); err != nil {
		return err
	}
	s.interpolate(s.lastSigma())
	if s.karras {
		all := s.noiseSchedule.sigmas()
		for i, v := range karrasSigmas(all[len(all)-1], all[0], n) {
			t := timestepOf(v, all)
			if s.schedule != "squaredcos_cap_v2" {
				t = math.RoundToEven(t)
			}
			s.sigmas[i], s.timesteps[i] = float32(v), math.Trunc(t)
		}
	}
	return nil
}

// shares are of signal and noise at a sigma.
func shares(sigma float32) (alpha, noise, lambda float64) {
	alpha = 1 / math.Sqrt(float64(sigma)*float64(sigma)+1)
	noise = float64(sigma) * alpha
	return alpha, noise, math.Log(alpha) - math.Log(noise)
}

func (s *dpm) samples() int { return 2 } // the second: the clean sample predicted at the step before

func (s *dpm) step(i int, _ float32) layers.Step {
	a, b, lambda := shares(s.sigmas[i])
	clean, _ := split(s.prediction, a, b)
	n := len(s.timesteps)
	final := i == n-1 && (s.eulerAtFinal || s.lowerOrderFinal && n < 15 || s.finalSigmas == "zero")

	alpha, noise, next := shares(s.sigmas[i+1])
	h := next - lambda
	pull := -alpha * math.Expm1(-h)
	row := from(noise/b, layers.Row{Clean: pull})
	if s.order == 2 && i > 0 && !final {
		_, _, before := shares(s.sigmas[i-1])
		slope := pull / 2
		if s.heun {
			slope = alpha * (math.Expm1(-h)/h + 1)
		}
		slope *= h / (lambda - before)
		row.Clean, row.State[1] = row.Clean+slope, -slope
	}
	return layers.Step{InputScale: 1, Clean: clean, Clip: math.Inf(1), Rows: []layers.Row{row, {Clean: 1}}}
}
