package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/stack"
	"gorgonia.org/tensor"
)

// Generate makes pictures. The context is looked at while waiting for other calls and before each operation of a
// network.
func (p *TextToImage) Generate(ctx context.Context, req Request) (res *Result, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	if res, err = p.generate(ctx, req); err != nil {
		return nil, err
	}
	return res, nil
}

func (p *TextToImage) generate(ctx context.Context, req Request) (res *Result, err error) {
	j, err := p.NewJob(req)
	if err != nil {
		return nil, err
	}
	if err := p.Room(ctx, j.heapBytes()); err != nil {
		return nil, err
	}
	times := newTimes(p.LoadTime)
	run, err := j.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		stats, stopped := run.End()
		if stopped != nil {
			err = errors.Join(err, stopped)
		}
		if res != nil {
			res.Offload = stats
		}
	}()
	times.lap()
	cond, err := j.EncodePrompt(ctx, run)
	if err != nil {
		return nil, err
	}
	times.Text = times.lap()
	latents := j.Noise()
	if err := j.denoise(ctx, run, cond, latents, times); err != nil {
		return nil, err
	}
	res = &Result{Seed: *j.req.Seed, Scheduler: j.course.Name(), Steps: j.Steps(), Warnings: append(cond.Warnings, p.rescue.warnings...)}
	if j.tile > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("decoded in tiles of %d pixels to fit the budget: pixels differ slightly from a decode in one piece", j.tile))
	}
	res.Images, err = j.Decode(ctx, run, latents)
	times.Decode, times.Load = times.lap(), p.LoadTime()-times.took
	res.Times = times.Times
	res.Latents = tensor.New(tensor.WithShape(j.shape...), tensor.WithBacking(latents))
	return res, err
}

// heapBytes is about what a job takes of the Go heap: latents in several forms, for each side of the guidance,
// pictures and the pixels of one before they are rounded.
func (j *Job) heapBytes() int64 {
	latents := 4 * int64(j.shape.TotalSize())
	pixels := int64(j.req.Height) * int64(j.req.Width)
	return latents*int64(2+2*len(j.sides)) + pixels*4*int64(j.shape[0]) + pixels*3*4
}

// denoise takes latents [N L h w] through every step, in place.
func (j *Job) denoise(ctx context.Context, run *graphs.Run, cond Conditioning, latents []float32, times *times) error {
	if err := j.Prepare(ctx, run, cond); err != nil {
		return err
	}
	j.SetLatents(latents)
	for i, t := range j.Timesteps() { // from the first: it is 0
		if err := j.Step(ctx, run, i); err != nil {
			return err
		}
		times.Steps = append(times.Steps, times.lap())
		if f := j.req.OnProgress; f != nil {
			if err := f(Step{Index: i, Total: j.Steps(), Timestep: t}); err != nil {
				return err
			}
			times.lap()
		}
		if f := j.req.OnStepEnd; f != nil {
			copy(latents, j.Latents())
			if err := f(Step{i, j.Steps(), t, latents}); err != nil {
				return err
			}
			if !finite(latents) {
				return &graphs.NonFiniteError{Step: i, Layer: "OnStepEnd"}
			}
			j.SetLatents(latents)
			times.lap()
		}
	}
	copy(latents, j.Latents())
	return nil
}

// finite reports whether no element is infinite or not a number.
func finite(x []float32) bool {
	for _, v := range x {
		if v-v != 0 {
			return false
		}
	}
	return true
}
