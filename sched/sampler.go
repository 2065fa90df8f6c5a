package sched

import (
	"fmt"
	"math"
)

// Sampler takes samples through a scheduler's steps in memory. Pipelines do the same in their graphs.
type Sampler struct {
	Scheduler
	first int       // the step that the run begins with
	state []float32 // [Samples N]
}

// NewSampler begins with a scheduler whose timesteps are set, or which its SetTimesteps or Begin sets.
func NewSampler(s Scheduler) *Sampler { return &Sampler{Scheduler: s} }

// SetTimesteps begins a run of n steps.
func (s *Sampler) SetTimesteps(n int) error { return s.Begin(Run{Steps: n}) }

// Begin begins a run, whose first step to Take is r.First.
func (s *Sampler) Begin(r Run) error {
	s.first = r.First
	return Begin(s.Scheduler, r)
}

// Options is what some schedulers need in a step.
type Options struct {
	Eta   float32             // DDIM
	Noise func(dst []float32) // unit normal noise, as torch.randn; asked for in each step in which diffusers draws it
}

// ScaleModelInput scales latents for the model, in place.
func (s *Sampler) ScaleModelInput(sample []float32, step int) {
	by := s.Step(step, 0).InputScale
	for i := range sample {
		sample[i] *= by
	}
}

// Take takes the sample past one step, in place. Steps must be taken in order.
func (s *Sampler) Take(modelOutput, sample []float32, step int, o Options) error {
	if step == s.first {
		s.state = make([]float32, s.Samples()*len(sample))
	}
	if len(s.state) != s.Samples()*len(sample) || len(modelOutput) != len(sample) {
		return fmt.Errorf("a run's steps begin with %d and are of samples of one size", s.first)
	}
	copy(s.state, sample)
	st := s.Step(step, o.Eta)
	var noise []float32
	if st.Draws {
		noise = make([]float32, len(sample))
		o.Noise(noise)
	}
	numbers := make([]float32, StepSize)
	st.Coefficients(numbers)
	Apply(numbers, s.state, modelOutput, noise)
	copy(sample, s.state)
	return nil
}

// split says what sample and model output contribute to the predicted clean sample, as Step has it, and to the
// predicted noise. a and b are the shares of signal and noise in the sample.
func split(prediction string, a, b float64) (clean [3]float64, noise [2]float64) {
	switch prediction {
	case "epsilon":
		return [3]float64{1, -b, a}, [2]float64{0, 1}
	case "sample":
		return [3]float64{0, 1, 1}, [2]float64{1 / b, -a / b}
	}
	return [3]float64{a, -b, 1}, [2]float64{b, a} // v (Salimans and Ho 2022)
}

// clipAt is the clip of a step.
func (c clipping) clipAt() float64 {
	if c.clip {
		return c.limit
	}
	return math.Inf(1)
}

// latents is the share of the latents alone in a row.
func latents(share float64) [MaxState]float64 { return [MaxState]float64{share} }
