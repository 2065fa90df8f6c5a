package graphs

import (
	"errors"
	"math"

	"github.com/euryale-ml/euryale/layers"
)

// method is a scheduler as Note [Steps as numbers] of package layers has it.
type method interface {
	Name() string
	SetTimesteps(n int) error
	Timesteps() []float32
	InitNoiseSigma() float32

	// samples is how many samples the state has: the latents, and what is kept of earlier steps.
	samples() int
	// step is the i-th step of the run, with DDIM's eta.
	step(i int, eta float32) layers.Step
}

// stepper is a method and its state.
type stepper struct {
	method
	state []float32 // [samples N]
}

func (s *stepper) ScaleModelInput(sample []float32, step int) {
	by := s.step(step, 0).InputScale
	for i := range sample {
		sample[i] *= by
	}
}

func (s *stepper) Step(modelOutput, sample []float32, step int, o StepOptions) error {
	if step == 0 {
		s.state = make([]float32, s.samples()*len(sample))
	}
	if len(s.state) != s.samples()*len(sample) || len(modelOutput) != len(sample) {
		return errors.New("a run's steps begin with 0 and are of samples of one size")
	}
	copy(s.state, sample)
	st := s.step(step, o.Eta)
	var noise []float32
	if st.Draws {
		noise = make([]float32, len(sample))
		o.Noise(noise)
	}
	numbers := make([]float32, layers.StepSize)
	st.Coefficients(numbers)
	layers.ApplyStep(numbers, s.state, modelOutput, noise)
	copy(sample, s.state)
	return nil
}

// split says what sample and model output contribute to the predicted clean sample, as layers.Step has it, and to the
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
func latents(share float64) [layers.MaxState]float64 { return [layers.MaxState]float64{share} }
