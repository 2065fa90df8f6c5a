package sched

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// noiseSchedule is how much noise each training timestep has.
type noiseSchedule struct {
	n             int // num_train_timesteps
	schedule      string
	alphasCumprod []float64 // the share of signal, squared
	zeroSNR       bool
}

// Note [Rounding of the noise schedule]
//
// diffusers computes the schedule in float32. What is left of 1-alpha at the first timesteps is then a few bits, which
// steps and sigmas show in the fifth digit, so these are the same bits here: those of torch on processors that have a
// fused multiply-add. With rescale_betas_zero_snr that cannot be had, as torch's square root depends on the library
// behind it. There all is in float64, so that the whole difference to diffusers is its own rounding.

const maxTrainTimesteps = 100000

// readNoise reads the keys of a class whose defaults these are.
func readNoise(c *hfconfig.Config, start, end float64, schedule string) noiseSchedule {
	s := noiseSchedule{
		n:        c.Int("num_train_timesteps", 1000, 2, maxTrainTimesteps),
		schedule: c.String("beta_schedule", schedule, "linear", "scaled_linear", "squaredcos_cap_v2"),
		zeroSNR:  c.Bool("rescale_betas_zero_snr", false),
	}
	c.Fixed(map[string][]string{"trained_betas": {"null"}})
	if s.schedule != "squaredcos_cap_v2" { // which has none
		start, end = c.Float("beta_start", start, 1e-9, 0.999), c.Float("beta_end", end, 1e-9, 0.999)
	}
	prod := 1.0
	for _, b := range s.betas(start, end) {
		prod *= s.round(1 - b) // torch adds up float32 products in double precision
		s.alphasCumprod = append(s.alphasCumprod, s.round(prod))
	}
	if s.zeroSNR {
		zeroTerminalSNR(s.alphasCumprod)
	}
	return s
}

// round is of a number of the schedule; see Note [Rounding of the noise schedule].
func (s noiseSchedule) round(x float64) float64 {
	if s.zeroSNR {
		return x
	}
	return float64(float32(x))
}

func (s noiseSchedule) betas(start, end float64) []float64 {
	betas := make([]float64, s.n)
	for i := range betas {
		switch s.schedule {
		case "linear":
			betas[i] = s.line(start, end, i)
		case "scaled_linear":
			v := s.line(math.Sqrt(start), math.Sqrt(end), i)
			betas[i] = s.round(v * v)
		case "squaredcos_cap_v2": // Nichol and Dhariwal 2021
			bar := func(t float64) float64 {
				c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
				return c * c
			}
			betas[i] = s.round(min(1-bar(float64(i+1)/float64(s.n))/bar(float64(i)/float64(s.n)), 0.999))
		}
	}
	return betas
}

// line is the i-th number of torch.linspace: counted from both ends to the middle, and rounded once.
func (s noiseSchedule) line(start, end float64, i int) float64 {
	start, end = s.round(start), s.round(end)
	step := s.round(s.round(end-start) / float64(s.n-1))
	if i < s.n/2 {
		return s.round(start + step*float64(i))
	}
	return s.round(end - step*float64(s.n-1-i))
}

// zeroTerminalSNR changes alphas_cumprod so that nothing of the signal is left at the end (algorithm 1 of arXiv
// 2305.08891).
func zeroTerminalSNR(alphasCumprod []float64) {
	first, last := math.Sqrt(alphasCumprod[0]), math.Sqrt(alphasCumprod[len(alphasCumprod)-1])
	for i, a := range alphasCumprod {
		v := (math.Sqrt(a) - last) * (first / (first - last))
		alphasCumprod[i] = v * v
	}
}

// sigmas is the noise in units of signal at each training timestep. The variance-exploding schedulers cannot take
// infinity, so with zero SNR the last is that of 2^-24 (as in FP16).
func (s noiseSchedule) sigmas() []float64 {
	out := make([]float64, s.n)
	for i, a := range s.alphasCumprod {
		switch b := float32(a); {
		case !s.zeroSNR:
			out[i] = float64(sqrt((1 - b) / b))
		case i == s.n-1:
			out[i] = 1 << 12 // the root of 2^24 - 1, as torch rounds it
		default:
			out[i] = math.Sqrt((1 - a) / a)
		}
	}
	return out
}

// at is alphas_cumprod of a timestep. Trailing spacing can lead to -1, which Python takes for the last.
func (s noiseSchedule) at(t int) float64 {
	if t < 0 {
		t += s.n
	}
	return s.alphasCumprod[t]
}

// mix is Mixer's for a timestep.
func (s noiseSchedule) mix(t float64) (signal, noise float64) {
	a := s.at(int(t))
	return math.Sqrt(a), math.Sqrt(1 - a)
}

// after is alphas_cumprod of the timestep that a step leads to, or what stands before the first.
func (s noiseSchedule) after(t int, alphaToOne bool) float64 {
	switch {
	case t >= 0:
		return s.at(t)
	case alphaToOne:
		return 1
	}
	return s.at(0)
}

// spaced picks training timesteps, from the last down, for n steps (table 2 of arXiv 2305.08891). linspace and leading
// pick of the first top timesteps as many as are asked for. trailing goes down from top by steps of a fraction, as
// numpy's arange, and then may end with one timestep more, which is -1. offset is for leading.
func (s noiseSchedule) spaced(spacing string, n, points, top, offset int) []float64 {
	t := make([]float64, points)
	switch spacing {
	case "linspace":
		step := 0.0
		if points > 1 {
			step = float64(top-1) / float64(points-1)
		}
		for i := range t {
			t[points-1-i] = float64(i) * step
		}
		if points > 1 {
			t[0] = float64(top - 1)
		}
	case "leading":
		for i := range t {
			t[points-1-i] = float64(i*(top/points) + offset)
		}
	case "trailing":
		t = arangeDown(float64(top), float64(s.n)/float64(n))
		for i, v := range t {
			t[i] = math.RoundToEven(v) - 1
		}
	}
	return t
}

// arangeDown is numpy's arange(from, 0, -step). It takes the difference of its first two numbers for the step, which
// the rounding of the second has changed.
func arangeDown(from, step float64) []float64 {
	t := make([]float64, int(math.Ceil(from/step)))
	rounded := (from - step) - from
	for i := range t {
		t[i] = from + float64(float64(i)*rounded) // the conversion keeps the two operations from being fused
	}
	return t
}

// rounded are timesteps as numpy rounds them to whole numbers.
func rounded(t []float64) []float64 {
	for i, v := range t {
		t[i] = math.RoundToEven(v)
	}
	return t
}

// stepsError is a number of steps that cannot be taken.
func stepsError(format string, a ...any) error {
	return &Error{"num_inference_steps", fmt.Sprintf(format, a...)}
}

// checkSteps refuses what no class takes.
func checkSteps(n int) error {
	if n < 1 {
		return stepsError("is %d, want at least 1", n)
	}
	return nil
}

// checkStepsTrained refuses more steps than the model was trained with, as some classes do.
func (s noiseSchedule) checkStepsTrained(n int) error {
	if n < 1 || n > s.n {
		return stepsError("is %d, want 1 to the scheduler's num_train_timesteps %d", n, s.n)
	}
	return nil
}

// checkIndex refuses a timestep that the noise schedule does not have, which an offset can give.
func (s noiseSchedule) checkIndex(r Run, t int) error {
	if t < -s.n || t >= s.n {
		return r.gives("the timestep %d, and the scheduler has 0 to %d", t, s.n-1)
	}
	return nil
}

// checkIndices refuses timesteps that are taken and that the noise schedule does not have.
func (s noiseSchedule) checkIndices(r Run, t []float64) error {
	if err := r.checkFirst(len(t)); err != nil {
		return err
	}
	for _, v := range t[r.First:] {
		if err := s.checkIndex(r, int(v)); err != nil {
			return err
		}
	}
	return nil
}

// float32s rounds numbers to float32.
func float32s(t []float64) []float32 {
	out := make([]float32, len(t))
	for i, v := range t {
		out[i] = float32(v)
	}
	return out
}
