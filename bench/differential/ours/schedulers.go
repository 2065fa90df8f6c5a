package main

import (
	"encoding/binary"
	"encoding/json"

	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/sched"
)

// schedulerCase is a scheduler and how many steps it takes with a model that stands in for itself: noise of a known
// seed, and a tenth of its input.
type schedulerCase struct {
	Config   string // scheduler_config.json
	Pipeline string // of model_index.json
	Class    string // of model_index.json
	Override string // made from the model's, "" for the model's own
	Steps    int
	Eta      float32
	Size     int // of the sample; 0 stops after the timesteps

	Timesteps []int     // in place of Steps
	Sigmas    []float64 // in place of Steps
	Strength  *float64  // of image-to-image; nil for text-to-image
}

// schedulerAnswer has floats as little-endian bytes: some are no numbers.
type schedulerAnswer struct {
	Error     string
	First     int // step
	Timesteps []byte
	Mixes     []byte // of signal and noise at each step of image-to-image
	Init      []byte // the spread of the first noise
	Samples   []byte // before each step, and the last
	Next      []byte // what the generator of the steps' noise gives next
}

func scheduler(line []byte) (any, error) {
	var c schedulerCase
	if err := json.Unmarshal(line, &c); err != nil {
		return nil, err
	}
	a, err := c.run()
	if err != nil {
		return schedulerAnswer{Error: err.Error()}, nil
	}
	return a, nil
}

func (c schedulerCase) run() (a schedulerAnswer, err error) {
	cfg := sched.PipelineConfig(c.Pipeline, c.Class, "scheduler_config.json", []byte(c.Config))
	made, err := sched.New(cfg, c.Override)
	if err != nil {
		return a, err
	}
	s := sched.NewSampler(made)
	r, err := c.asked()
	if err != nil {
		return a, err
	}
	if err := s.Begin(r); err != nil {
		return a, err
	}
	a.First = r.First
	a.Timesteps, a.Init = bytes(s.Timesteps()...), bytes(s.InitNoiseSigma())
	if c.Size == 0 {
		return a, nil
	}
	x, out, scaled := make([]float32, c.Size), make([]float32, c.Size), make([]float32, c.Size)
	outputs, noise := torchrand.New(2), torchrand.New(3)
	torchrand.New(1).Randn(x)
	mixer := made.(sched.Mixer)
	if c.Strength == nil {
		for i := range x {
			x[i] *= s.InitNoiseSigma()
		}
	} else {
		torchrand.New(4).Randn(scaled) // the clean sample
		signal, noise := mixer.Mix(r.First)
		for i := range x {
			x[i] = float32(signal)*scaled[i] + float32(noise)*x[i]
		}
	}
	for step := r.First; step < len(s.Timesteps()); step++ {
		a.Samples = append(a.Samples, bytes(x...)...)
		if c.Strength != nil {
			signal, noise := mixer.Mix(step)
			a.Mixes = append(a.Mixes, bytes(float32(signal), float32(noise))...)
		}
		copy(scaled, x)
		s.ScaleModelInput(scaled, step)
		outputs.Randn(out)
		for i := range out {
			out[i] = 0.9*out[i] + 0.1*scaled[i]
		}
		if err := s.Take(out, x, step, sched.Options{Eta: c.Eta, Noise: noise.Randn}); err != nil {
			return a, err
		}
	}
	a.Samples = append(a.Samples, bytes(x...)...)
	next := make([]float32, c.Size)
	noise.Randn(next)
	a.Next = bytes(next...)
	return a, nil
}

// asked is the run of a case.
func (c schedulerCase) asked() (r sched.Run, err error) {
	r = sched.Run{Steps: c.Steps, Timesteps: c.Timesteps, Sigmas: c.Sigmas, FromImage: c.Strength != nil}
	if c.Timesteps != nil || c.Sigmas != nil {
		r.Steps = 0
	}
	n, err := r.Count()
	if err == nil && c.Strength != nil {
		r.First, err = sched.FirstStep(n, *c.Strength)
	}
	return r, err
}

func bytes(v ...float32) []byte {
	raw, _ := binary.Append(nil, binary.LittleEndian, v)
	return raw
}
