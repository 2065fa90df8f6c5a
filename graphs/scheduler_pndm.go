package graphs

import (
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/layers"
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
}

func newPNDM(n noiseSchedule, c *hfconfig.Config, p *schedulerParams) method {
	s := &pndm{noiseSchedule: n, schedulerParams: p, skipPRK: c.Bool("skip_prk_steps", false)}
	if p.prediction == "sample" {
		c.Bad("prediction_type", p.prediction, "epsilon or v_prediction with PNDMScheduler")
	}
	return s
}

func (s *pndm) Name() string            { return "PNDMScheduler" }
func (s *pndm) Timesteps() []float32    { return float32s(s.timesteps) }
func (s *pndm) InitNoiseSigma() float32 { return 1 }

func (s *pndm) SetTimesteps(n int) error {
	if err := s.checkSteps(n); err != nil {
		return err
	}
	s.steps = n
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

// The samples that are kept: model outputs from the newest on, the sample that a Runge-Kutta or the first multistep
// began with, and the sum of a Runge-Kutta step.
const (
	pndmOutputs = 1 // to 3
	pndmStart   = 4
	pndmSum     = 5
)

func (s *pndm) samples() int {
	if s.skipPRK {
		return pndmSum
	}
	return pndmSum + 1
}

func (s *pndm) step(i int, _ float32) layers.Step {
	rows := make([]layers.Row, s.samples())
	for k := range rows {
		rows[k].State[k] = 1 // what is not changed is kept
	}
	if i < s.prk {
		s.rungeKutta(i, rows)
	} else {
		s.multistep(i-s.prk, rows)
	}
	return layers.Step{InputScale: 1, Clean: [3]float64{1, 0, 1}, Clip: math.Inf(1), Rows: rows}
}

// push keeps the model's output.
func push(rows []layers.Row) {
	for k := pndmOutputs; k < pndmOutputs+3; k++ {
		rows[k] = layers.Row{}
		if k == pndmOutputs {
			rows[k].Output = 1
		} else {
			rows[k].State[k-1] = 1
		}
	}
}

func (s *pndm) rungeKutta(i int, rows []layers.Row) {
	diff := 0
	if i%2 == 0 {
		diff = s.n / s.steps / 2
	}
	t, prev := int(s.timesteps[i/4*4]), int(s.timesteps[i])-diff
	share := 1.0 / 3
	if i%4 == 0 || i%4 == 3 {
		share = 1.0 / 6
	}
	start, sum := pndmStart, layers.Row{Output: share}
	if i%4 == 0 {
		start = 0
		rows[pndmStart] = layers.Row{State: [layers.MaxState]float64{1}}
		push(rows)
	} else {
		sum.State[pndmSum] = 1
	}
	rows[pndmSum] = sum
	noise := layers.Row{Output: 1}
	if i%4 == 3 {
		noise = sum
	}
	rows[0] = s.transfer(start, noise, t, prev)
}

// mixes are what the multistep makes of model outputs, the newest first, when there are one, two, three and four of
// them (Adams and Bashforth 1883).
var mixes = [][]float64{{1}, {3.0 / 2, -1.0 / 2}, {23.0 / 12, -16.0 / 12, 5.0 / 12}, {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}}

func (s *pndm) multistep(count int, rows []layers.Row) {
	t := int(s.timesteps[s.prk+count])
	prev := t - s.n/s.steps
	start := 0
	var noise layers.Row
	if count == 1 && s.skipPRK {
		// The corrector: the first step again, with the mean of the outputs at both of its ends.
		prev, t = t, t+s.n/s.steps
		start, noise.Output, noise.State[pndmOutputs] = pndmStart, 0.5, 0.5
	} else {
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
			rows[pndmStart] = layers.Row{State: [layers.MaxState]float64{1}}
		}
	}
	rows[0] = s.transfer(start, noise, t, prev)
}

// transfer is formula (9) of the paper: the sample at prev from the one at t, which the state has as start, and the
// noise.
func (s *pndm) transfer(start int, noise layers.Row, t, prev int) layers.Row {
	alpha, alphaPrev := s.at(t, s.alphaToOne), s.at(prev, s.alphaToOne)
	beta, betaPrev := 1-alpha, 1-alphaPrev
	keep := math.Sqrt(alphaPrev / alpha)
	shift := (alphaPrev - alpha) / (alpha*math.Sqrt(betaPrev) + math.Sqrt(alpha*beta*alphaPrev))
	if s.prediction == "v_prediction" {
		keep, shift = keep-shift*math.Sqrt(beta), shift*math.Sqrt(alpha)
	}
	row := layers.Row{Output: -shift * noise.Output}
	for k, v := range noise.State {
		row.State[k] = -shift * v
	}
	row.State[start] += keep
	return row
}
