package sched

import (
	"math"
	"sort"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// dpm is DPMSolverMultistepScheduler: DPM-Solver++ of order one or two (Lu et al. 2022, arXiv 2211.01095).
type dpm struct {
	sigmaSteps
	karras
	order           int     // solver_order
	heun            bool    // solver_type
	lowerOrderFinal bool    // lower_order_final
	eulerAtFinal    bool    // euler_at_final
	lambdaMin       float64 // lambda_min_clipped
	first           int     // the step that the run begins with, which knows of none before
}

func newDPM(c *hfconfig.Config) Scheduler {
	s := &dpm{
		sigmaSteps: sigmaSteps{
			noiseSchedule:   readNoise(c, 0.0001, 0.02, "linear"),
			schedulerParams: readParams(c, "linspace", "epsilon", "v_prediction", "sample"),
		},
		karras: readKarras(c), order: c.Int("solver_order", 2, 1, 2),
		// The last three are solvers of other classes, which this class takes for its first.
		heun:            c.String("solver_type", "midpoint", "midpoint", "heun", "logrho", "bh1", "bh2") == "heun",
		lowerOrderFinal: c.Bool("lower_order_final", true),
		eulerAtFinal:    c.Bool("euler_at_final", false),
		lambdaMin:       c.Float("lambda_min_clipped", math.Inf(-1), math.Inf(-1), math.Inf(1)),
	}
	algorithms := []string{`"dpmsolver++"`}
	if s.finalSigmas == "sigma_min" { // with zero the constructor refuses the second, and else takes it for the first
		algorithms = append(algorithms, `"deis"`)
	}
	c.Fixed(map[string][]string{
		"algorithm_type": algorithms, "variance_type": {"null"}, "thresholding": {"false", "null"},
		"use_lu_lambdas": {"false", "null"}, "use_flow_sigmas": {"false", "null"},
	})
	return s
}

func (s *dpm) Name() string            { return "DPMSolverMultistepScheduler" }
func (s *dpm) InitNoiseSigma() float32 { return 1 }

func (s *dpm) SetTimesteps(n int) error { return s.Begin(Run{Steps: n}) }

func (s *dpm) Begin(r Run) error {
	n, err := r.Count()
	switch {
	case err == nil && r.Sigmas != nil:
		err = r.untaken(s.Name())
	case err == nil:
		err = s.checkListed(r)
	}
	if err != nil {
		return err
	}
	all := s.noiseSchedule.sigmas()
	t := r.whole()
	if r.Timesteps == nil {
		t = s.picked(n, all)
	}
	sigmas := s.interpolated(t)
	if s.on {
		sigmas = s.spread(all[s.n-1], all[0], n)
		t = s.timestepsOf(sigmas)
		for i, v := range t {
			if s.schedule != "squaredcos_cap_v2" {
				v = math.RoundToEven(v)
			}
			t[i] = math.Trunc(v)
		}
	}
	s.first = r.First
	if err := s.set(r, t, append(sigmas, s.last(s.noiseSchedule))); err != nil {
		return err
	}
	return s.checkSolver(r)
}

// picked are the timesteps of n steps by the scheduler's spacing. all are the sigmas of the schedule.
func (s *dpm) picked(n int, all []float64) []float64 {
	// Timesteps with less signal than lambda_min_clipped are left out: lambda falls with the timestep.
	top := sort.Search(s.n, func(i int) bool { return -math.Log(all[i]) < s.lambdaMin })
	t := s.spaced(s.spacing, n, n+1, top, s.stepsOffset)
	if s.spacing != "trailing" {
		t = rounded(t)[:n] // the lowest point is none
	}
	return t
}

func (s *dpm) Mix(i int) (signal, noise float64) {
	signal, noise, _ = shares(s.sigmas[i])
	return signal, noise
}

// checkSolver refuses steps whose solver divides by the distance of two sigmas that are one, as those of timesteps
// beyond the schedule's last are. diffusers then makes pictures of no numbers.
func (s *dpm) checkSolver(r Run) error {
	for i := range s.timesteps {
		row := s.Step(i, 0).Rows[0]
		for _, v := range []float64{row.State[0], row.State[1], row.Clean} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return r.gives("two steps one sigma, %g, which this solver cannot take; want %s", s.sigmas[i], r.fewer())
			}
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

func (s *dpm) Samples() int { return 2 } // the second: the clean sample predicted at the step before

func (s *dpm) Step(i int, _ float32) Step {
	a, b, lambda := shares(s.sigmas[i])
	clean, _ := split(s.prediction, a, b)
	n := len(s.timesteps)
	final := i == n-1 && (s.eulerAtFinal || s.lowerOrderFinal && n < 15 || s.finalSigmas == "zero")

	alpha, noise, next := shares(s.sigmas[i+1])
	h := next - lambda
	pull := -alpha * math.Expm1(-h)
	row := Row{State: latents(noise / b), Clean: pull}
	if s.order == 2 && i > s.first && !final {
		_, _, before := shares(s.sigmas[i-1])
		slope := pull / 2
		if s.heun {
			slope = alpha * (math.Expm1(-h)/h + 1)
		}
		slope *= h / (lambda - before)
		row.Clean, row.State[1] = row.Clean+slope, -slope
	}
	return Step{InputScale: 1, Clean: clean, Clip: math.Inf(1), Rows: []Row{row, {Clean: 1}}}
}
