package sched

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// sigmaSteps is what the schedulers that count noise in sigmas share.
type sigmaSteps struct {
	noiseSchedule
	schedulerParams
	timesteps []float32
	sigmas    []float32 // one more than timesteps
}

func (s *sigmaSteps) Timesteps() []float32 { return s.timesteps }

// interpolated are the sigmas at timesteps.
func (s *sigmaSteps) interpolated(t []float64) []float64 {
	all := s.noiseSchedule.sigmas()
	out := make([]float64, len(t))
	for i, v := range t {
		out[i] = interp(v, all)
	}
	return out
}

// interp is y at x between its neighbours.
func interp(x float64, y []float64) float64 {
	x = min(max(x, 0), float64(len(y)-1))
	i := min(int(x), len(y)-2)
	return y[i] + (y[i+1]-y[i])*(x-float64(i))
}

// set is the end of Begin. sigmas are one more than timesteps.
func (s *sigmaSteps) set(r Run, timesteps, sigmas []float64) error {
	s.timesteps, s.sigmas = float32s(timesteps), float32s(sigmas)
	return r.checkTimesteps(s.timesteps)
}

// karras is the keys of classes that may space sigmas evenly in their seventh root.
type karras struct {
	on          bool    // use_karras_sigmas
	low, high   float64 // sigma_min and sigma_max, 0 for those of the schedule
	finalSigmas string  // final_sigmas_type
}

func readKarras(c *hfconfig.Config) karras {
	k := karras{on: c.Is("use_karras_sigmas", "true")}
	c.Fixed(map[string][]string{
		"use_karras_sigmas": {"false", "true"}, "use_exponential_sigmas": {"false"}, "use_beta_sigmas": {"false"},
	})
	k.finalSigmas = c.String("final_sigmas_type", "zero", "zero", "sigma_min")
	if k.on { // else they have no effect
		k.low, k.high = bound(c, "sigma_min"), bound(c, "sigma_max")
	}
	return k
}

// bound reads a sigma, 0 if there is none.
func bound(c *hfconfig.Config, field string) float64 {
	if !c.Has(field) {
		return 0
	}
	return c.Float(field, 1, 1e-6, 1e6)
}

// spread is n sigmas from high to low, or the bounds of the config, evenly spaced in their seventh root (formula (5) of
// Karras et al. 2022, arXiv 2206.00364).
func (k karras) spread(high, low float64, n int) []float64 {
	if k.high != 0 {
		high = k.high
	}
	if k.low != 0 {
		low = k.low
	}
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

// checkListed refuses timesteps where sigmas are spread without them.
func (k karras) checkListed(r Run) error {
	if r.Timesteps != nil && k.on {
		return &Error{"timesteps", "cannot be given to a scheduler with use_karras_sigmas, which spaces sigmas by itself"}
	}
	return nil
}

// last is what follows the final step.
func (k karras) last(all noiseSchedule) float64 {
	if k.finalSigmas == "sigma_min" {
		return all.sigmas()[0]
	}
	return 0
}

// timestepsOf are the timesteps, between whole ones, that have these sigmas. diffusers takes logarithms of the
// schedule's in float32.
func (s noiseSchedule) timestepsOf(sigmas []float64) []float64 {
	logs := make([]float32, s.n)
	for i, v := range s.sigmas() {
		logs[i] = float32(math.Log(v))
	}
	out := make([]float64, len(sigmas))
	for i, sigma := range sigmas {
		at := math.Log(max(sigma, 1e-10))
		above := sort.Search(s.n, func(j int) bool { return float64(logs[j]) > at })
		low := min(max(above-1, 0), s.n-2)
		a, b := logs[low], logs[low+1]
		w := min(max((float64(a)-at)/float64(a-b), 0), 1)
		out[i] = (1-w)*float64(low) + w*float64(low+1)
	}
	return out
}

// cleanSample says what sample and model output contribute to the predicted clean sample, in the sigma parametrisation.
func cleanSample(prediction string, sigma float64) [3]float64 {
	switch prediction {
	case "epsilon":
		return [3]float64{1, -sigma, 1}
	case "v_prediction":
		v := sigma*sigma + 1
		return [3]float64{1 / v, -sigma / math.Sqrt(v), 1}
	}
	return [3]float64{0, 1, 1} // the sample itself
}

// euler is EulerDiscreteScheduler and EulerAncestralDiscreteScheduler (Karras et al. 2022, algorithm 2 without
// churn; ancestral sampling is k-diffusion's).
type euler struct {
	sigmaSteps
	karras
	ancestral bool
}

func newEuler(c *hfconfig.Config) Scheduler {
	s := &euler{karras: readKarras(c), sigmaSteps: sigmaSteps{
		noiseSchedule: readNoise(c, 0.0001, 0.02, "linear"),
		// The last means what sample means.
		schedulerParams: readParams(c, "linspace", "epsilon", "v_prediction", "sample", "original_sample"),
	}}
	c.Fixed(map[string][]string{"interpolation_type": {`"linear"`}})
	kinds := []string{`"discrete"`, "null"}
	if s.prediction != "v_prediction" {
		kinds = append(kinds, `"continuous"`) // which has an effect with v_prediction alone
	}
	c.Fixed(map[string][]string{"timestep_type": kinds})
	return s
}

func newEulerAncestral(c *hfconfig.Config) Scheduler {
	return &euler{ancestral: true, sigmaSteps: sigmaSteps{
		noiseSchedule:   readNoise(c, 0.0001, 0.02, "linear"),
		schedulerParams: readParams(c, "linspace", "epsilon", "v_prediction"),
	}}
}

func (s *euler) Name() string {
	if s.ancestral {
		return "EulerAncestralDiscreteScheduler"
	}
	return "EulerDiscreteScheduler"
}

func (s *euler) SetTimesteps(n int) error { return s.Begin(Run{Steps: n}) }

func (s *euler) Begin(r Run) error {
	n, err := r.Count()
	switch {
	case err == nil && s.ancestral && r.listed() != "":
		err = r.untaken(s.Name())
	case err == nil:
		err = cmp.Or(s.checkListed(r), r.checkSigmas())
	}
	if err != nil {
		return err
	}
	if r.Sigmas != nil { // as they are, whatever the config has of their spacing and their end
		return s.set(r, s.timestepsOf(r.Sigmas[:n]), r.Sigmas)
	}
	t := r.whole()
	if r.Timesteps == nil {
		t = s.spaced(s.spacing, n, n, s.n, s.stepsOffset)
	}
	sigmas := s.interpolated(t)
	if s.on {
		sigmas = s.spread(sigmas[0], sigmas[len(sigmas)-1], n)
		t = s.timestepsOf(sigmas)
	}
	return s.set(r, t, append(sigmas, s.last(s.noiseSchedule)))
}

func (s *euler) Mix(i int) (signal, noise float64) { return 1, float64(s.sigmas[i]) }

func (s *euler) InitNoiseSigma() float32 {
	high := slices.Max(s.sigmas)
	if s.spacing == "leading" {
		return float32(math.Sqrt(float64(high)*float64(high) + 1))
	}
	return high
}

func (s *euler) Samples() int { return 1 }

// step goes along the derivative, the noise in units of sigma, from sigma to the next.
func (s *euler) Step(i int, _ float32) Step {
	from, to := float64(s.sigmas[i]), float64(s.sigmas[i+1])
	up := 0.0
	if s.ancestral {
		up = math.Sqrt(to * to * (from*from - to*to) / (from * from))
		to = math.Sqrt(to*to - up*up)
	}
	row := Row{State: latents(to / from), Clean: 1 - to/from, Noise: up}
	return Step{InputScale: float32(1 / math.Sqrt(from*from+1)), Clean: cleanSample(s.prediction, from),
		Clip: math.Inf(1), Rows: []Row{row}, Draws: s.ancestral}
}
