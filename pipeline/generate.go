package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"gorgonia.org/tensor"
)

// Generate makes pictures. The context is looked at while waiting for other calls and before each operation of a
// network.
func (p *TextToImage) Generate(ctx context.Context, req Request) (res *Result, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	if err := p.acquire(ctx); err != nil {
		return nil, err
	}
	defer p.yield()
	if res, err = p.generate(ctx, req); err != nil {
		return nil, err
	}
	return res, nil
}

func (p *TextToImage) generate(ctx context.Context, req Request) (res *Result, err error) {
	r, err := p.Resolve(req)
	if err != nil {
		return nil, err
	}
	if err := p.Room(ctx, p.heapBytes(r)); err != nil {
		return nil, err
	}
	c, err := p.course(r)
	if err != nil {
		return nil, err
	}
	p.trim()
	times := newTimes(p.LoadTime)
	run, tile, err := p.begin(ctx, r, c)
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
	cond, err := p.condition(ctx, run, r)
	if err != nil {
		return nil, err
	}
	times.Text = times.lap()
	noise := torchrand.New(*r.Seed)
	latents := p.start(r, c, noise)
	if err := p.denoise(ctx, run, r, c, cond, latents, noise, times); err != nil {
		return nil, err
	}
	res = &Result{Seed: *r.Seed, Scheduler: c.Name(), Steps: len(c.timesteps), Warnings: append(cond.warnings, p.rescue.warnings...)}
	if tile > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("decoded in tiles of %d pixels to fit the budget: pixels differ slightly from a decode in one piece", tile))
	}
	res.Images, err = p.decode(ctx, run, r, latents, tile)
	times.Decode, times.Load = times.lap(), p.LoadTime()-times.took
	res.Times = times.Times
	res.Latents = tensor.New(tensor.WithShape(p.latentShape(r)...), tensor.WithBacking(latents))
	return res, err
}

// heapBytes is about what a request takes of the Go heap: latents in several forms, for each side of the guidance,
// pictures and the pixels of one before they are rounded.
func (p *TextToImage) heapBytes(r Request) int64 {
	latents := 4 * int64(p.latentShape(r).TotalSize())
	pixels := int64(r.Height) * int64(r.Width)
	return latents*int64(2+2*len(p.sides(r))) + pixels*4*int64(r.NumImagesPerPrompt) + pixels*3*4
}

func (p *TextToImage) latentShape(r Request) tensor.Shape {
	return tensor.Shape{r.NumImagesPerPrompt, p.unet.InChannels, r.Height / p.vae.Scale(), r.Width / p.vae.Scale()}
}

// start is the noise that the first step denoises.
//
//	result [N L h w]
func (p *TextToImage) start(r Request, c *course, noise *torchrand.Generator) []float32 {
	latents := make([]float32, p.latentShape(r).TotalSize())
	if r.Latents != nil {
		copy(latents, contiguous(r.Latents))
	} else {
		noise.Randn(latents)
	}
	for i := range latents {
		latents[i] *= c.InitNoiseSigma()
	}
	return latents
}

// denoise takes latents [N L h w] through every step, in place.
func (p *TextToImage) denoise(ctx context.Context, run *graphs.Run, r Request, c *course, cond conditioning, latents []float32, noise *torchrand.Generator, times *times) error {
	shape := p.latentShape(r)
	n, err := p.denoising(c, shape[0], cond.rows, shape[2], shape[3], cond.tokens)
	if err != nil {
		return err
	}
	if err := n.prepare(ctx, run, cond, c.timesteps); err != nil {
		return err
	}
	clear(n.in.state)
	current := n.in.state[:len(latents)]
	eachImage(channelsLast, current, latents, shape)
	for i, t := range c.timesteps {
		n.step(i, t)
		c.steps[i].Coefficients(n.in.step)
		if c.steps[i].Draws {
			fresh := make([]float32, len(latents))
			noise.Randn(fresh)
			eachImage(channelsLast, n.in.noise, fresh, shape)
		}
		if err := run.Pass(ctx, n.vm); err != nil {
			return ofStep(i, err)
		}
		times.Steps = append(times.Steps, times.lap())
		if r.OnProgress != nil {
			if err := r.OnProgress(Step{Index: i, Total: len(c.timesteps), Timestep: t}); err != nil {
				return err
			}
			times.lap()
		}
		if r.OnStepEnd != nil {
			eachImage(channelsFirst, latents, current, shape)
			if err := r.OnStepEnd(Step{i, len(c.timesteps), t, latents}); err != nil {
				return err
			}
			if !finite(latents) {
				return &graphs.NonFiniteError{Step: i, Layer: "OnStepEnd"}
			}
			eachImage(channelsLast, current, latents, shape)
			times.lap()
		}
	}
	eachImage(channelsFirst, latents, current, shape)
	return nil
}

// ofStep says in which step a value was not finite.
func ofStep(i int, err error) error {
	var e *graphs.NonFiniteError
	if errors.As(err, &e) {
		e.Step = i
	}
	return err
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

// eachImage turns every picture of a batch of shape [N C h w] into the other layout.
func eachImage(turn func(dst, src []float32, c int), dst, src []float32, shape tensor.Shape) {
	n := len(src) / shape[0]
	for i := range shape[0] {
		turn(dst[i*n:][:n], src[i*n:][:n], shape[1])
	}
}

// channelsLast turns [C ...] into [... C].
func channelsLast(dst, src []float32, c int) {
	n := len(src) / c
	for i := range n {
		for j := range c {
			dst[i*c+j] = src[j*n+i]
		}
	}
}

// channelsFirst turns [... C] into [C ...].
func channelsFirst(dst, src []float32, c int) {
	n := len(src) / c
	for i := range n {
		for j := range c {
			dst[j*n+i] = src[i*c+j]
		}
	}
}
