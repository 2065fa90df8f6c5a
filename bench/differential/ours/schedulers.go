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
}

// schedulerAnswer has floats as little-endian bytes: some are no numbers.
type schedulerAnswer struct {
	Error     string
	Timesteps []byte
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
	if err := s.SetTimesteps(c.Steps); err != nil {
		return a, err
	}
	a.Timesteps, a.Init = bytes(s.Timesteps()...), bytes(s.InitNoiseSigma())
	if c.Size == 0 {
		return a, nil
	}
	x, out, scaled := make([]float32, c.Size), make([]float32, c.Size), make([]float32, c.Size)
	outputs, noise := torchrand.New(2), torchrand.New(3)
	torchrand.New(1).Randn(x)
	for i := range x {
		x[i] *= s.InitNoiseSigma()
	}
	for step := range s.Timesteps() {
		a.Samples = append(a.Samples, bytes(x...)...)
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

func bytes(v ...float32) []byte {
	raw, _ := binary.Append(nil, binary.LittleEndian, v)
	return raw
}
