package sched

import (
	"cmp"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// pndm is PNDMScheduler (Liu et al. 2022, arXiv 2202.09778): a linear multistep Scheduler, after three
// Runge-Kutta steps unless skip_prk_steps is set.
type pndm struct {
	noiseSchedule
	schedulerParams
	skipPRK    bool // skip_prk_steps
	alphaToOne bool // set_alpha_to_one
	steps      int
	first      int // the step that the run begins with: Runge-Kutta and multistep are counted from it
	prk        int // timesteps that belong to Runge-Kutta steps
	timesteps  []float64
}

func newPNDM(c *hfconfig.Config) Scheduler {
	return &pndm{
		noiseSchedule:   readNoise(c, 0.0001, 0.02, "linear"),
		schedulerParams: readParams(c, "leading", "epsilon", "v_prediction"),
		skipPRK:         c.Bool("skip_prk_steps", false),
		alphaToOne:      c.Bool("set_alpha_to_one", false),
	}
}

func (s *pndm) Name() string            { return "PNDMScheduler" }
func (s *pndm) Timesteps() []float32    { return float32s(s.timesteps) }
func (s *pndm) InitNoiseSigma() float32 { return 1 }

func (s *pndm) SetTimesteps(n int) error { return s.Begin(Run{Steps: n}) }

func (s *pndm) Begin(r Run) error {
	n, err := r.spaced(s.Name())
	if err != nil {
		return err
	}
	s.steps, s.first, s.prk = n, r.First, 0
	s.timesteps = rounded(s.spaced(s.spacing, n, n, s.n, s.stepsOffset))
	switch {
	case !s.skipPRK && len(s.timesteps) < 4:
		return stepsError("%d gives %d timesteps, want 4 at least without the scheduler's skip_prk_steps", n, len(s.timesteps))
	case !s.skipPRK:
		s.setPRK()
	case len(s.timesteps) > 1:
		// The second timestep comes twice: the first multistep is a predictor, then a corrector.
		s.timesteps = slices.Insert(s.timesteps, 1, s.timesteps[1])
	}
	if err := r.checkFirst(len(s.timesteps)); err != nil {
		return err
	}
	for i := range s.timesteps[s.first:] {
		t, prev := s.span(s.first + i)
		if err := cmp.Or(s.checkIndex(r, t), s.checkIndex(r, max(prev, -1))); err != nil {
			return err
		}
	}
	return nil
}

func (s *pndm) Mix(i int) (signal, noise float64) { return s.mix(s.timesteps[i]) }

// setPRK replaces the first three timesteps by four evaluations each, halfway ones twice.
func (s *pndm) setPRK() {
	first := slices.Clone(s.timesteps[:4])
	slices.Reverse(first)
	var points []float64 // ascending, each followed by the halfway point above it
	for _, v := range first {
		points = append(points, v, v+float64(s.half()))
	}
	points = points[:len(points)-1]
	var twice []float64
	for _, v := range points {
		twice = append(twice, v, v)
	}
	twice = twice[1 : len(twice)-1]
	slices.Reverse(twice)
	s.prk = len(twice)
	s.timesteps = append(twice, s.timesteps[3:]...)
}

// half is the halfway point of a step.
func (s *pndm) half() int { return s.n / s.steps / 2 }

// span is the timesteps between which step i goes. diffusers counts from the step that the run begins with, whichever
// that is. In a run that begins late the corrector thus goes from a timestep that was left out to the one it is told,
// and Runge-Kutta steps go from the timesteps of a whole run's first steps.
func (s *pndm) span(i int) (t, prev int) {
	t = int(s.timesteps[i])
	switch count := i - s.first; {
	case count < s.prk && count%2 == 0:
		return int(s.timesteps[count/4*4]), t - s.half()
	case count < s.prk:
		return int(s.timesteps[count/4*4]), t
	case s.corrects(count):
		return t + s.n/s.steps, t
	}
	return t, t - s.n/s.steps
}

// corrects reports whether a multistep is the first step again, with the mean of the outputs at both of its ends.
func (s *pndm) corrects(count int) bool { return count == 1 && s.skipPRK }

// The samples that are kept: model outputs from the newest on, the sample that a Runge-Kutta or the first multistep
// began with, and the sum of a Runge-Kutta step.
const (
	pndmOutputs = 1 // to 3
	pndmStart   = 4
	pndmSum     = 5
)

func (s *pndm) Samples() int {
	if s.skipPRK {
		return pndmSum
	}
	return pndmSum + 1
}

func (s *pndm) Step(i int, _ float32) Step {
	rows := make([]Row, s.Samples())
	for k := range rows {
		rows[k].State[k] = 1 // what is not changed is kept
	}
	var start int // the sample that the step begins with
	var noise Row
	if count := i - s.first; count < s.prk {
		start, noise = s.rungeKutta(count, rows)
	} else {
		start, noise = s.multistep(count-s.prk, rows)
	}
	t, prev := s.span(i)
	rows[0] = s.transfer(start, noise, t, prev)
	return Step{InputScale: 1, Clean: [3]float64{1, 0, 1}, Clip: math.Inf(1), Rows: rows}
}

// push keeps the model's output.
func push(rows []Row) {
	for k := pndmOutputs; k < pndmOutputs+3; k++ {
		rows[k] = Row{}
		if k == pndmOutputs {
			rows[k].Output = 1
		} else {
			rows[k].State[k-1] = 1
		}
	}
}

func (s *pndm) rungeKutta(i int, rows []Row) (start int, noise Row) {
	share := 1.0 / 3
	if i%4 == 0 || i%4 == 3 {
		share = 1.0 / 6
	}
	start = pndmStart
	sum := Row{Output: share}
	if i%4 == 0 {
		start = 0
		rows[pndmStart] = Row{State: latents(1)}
		push(rows)
	} else {
		sum.State[pndmSum] = 1
	}
	rows[pndmSum] = sum
	if i%4 == 3 {
		return start, sum
	}
	return start, Row{Output: 1}
}

// mixes are what the multistep makes of model outputs, the newest first, when there are one, two, three and four of
// them (Adams and Bashforth 1883).
var mixes = [][]float64{{1}, {3.0 / 2, -1.0 / 2}, {23.0 / 12, -16.0 / 12, 5.0 / 12}, {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}}

func (s *pndm) multistep(count int, rows []Row) (start int, noise Row) {
	if s.corrects(count) {
		noise.Output, noise.State[pndmOutputs] = 0.5, 0.5
		return pndmStart, noise
	}
	known := s.prk/4 + count
	if s.skipPRK && count > 1 {
		known--
	}
	mix := mixes[min(known, 3)]
	noise.Output = mix[0]
	for k, v := range mix[1:] {
		noise.State[pndmOutputs+k] = v
	}
	push(rows)
	if count == 0 {
		rows[pndmStart] = Row{State: latents(1)}
	}
	return 0, noise
}

// transfer is formula (9) of the paper: the sample at prev from the one at t, which the state has as start, and the
// noise.
func (s *pndm) transfer(start int, noise Row, t, prev int) Row {
	alpha, alphaPrev := s.at(t), s.after(prev, s.alphaToOne)
	beta, betaPrev := 1-alpha, 1-alphaPrev
	keep := math.Sqrt(alphaPrev / alpha)
	shift := (alphaPrev - alpha) / (alpha*math.Sqrt(betaPrev) + math.Sqrt(alpha*beta*alphaPrev))
	if s.prediction == "v_prediction" {
		keep, shift = keep-shift*math.Sqrt(beta), shift*math.Sqrt(alpha)
	}
	row := Row{Output: -shift * noise.Output}
	for k, v := range noise.State {
		row.State[k] = -shift * v
	}
	row.State[start] += keep
	return row
}
