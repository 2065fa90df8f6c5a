package graphs

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/unet"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Generate makes pictures. The context is looked at while waiting for other calls and before each operation of a
// network.
func (p *TextToImage) Generate(ctx context.Context, req Request) (res *Result, err error) {
	defer program.Recovered(&err)
	err = p.host.do(ctx, func(ctx context.Context) error {
		res, err = p.generate(ctx, req)
		if errors.As(err, new(*MemoryError)) {
			if e := errors.Join(p.endSession(), p.host.release()); e != nil {
				err = errors.Join(err, e)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (p *TextToImage) generate(ctx context.Context, req Request) (res *Result, err error) {
	r, err := p.Resolve(req)
	if err != nil {
		return nil, err
	}
	if err := p.host.memory.Room(p.heapBytes(r)); err != nil {
		return nil, err
	}
	sched, err := NewScheduler(p.scheduler, r.Scheduler)
	if err != nil {
		return nil, err
	}
	if err := sched.SetTimesteps(r.NumInferenceSteps); err != nil {
		return nil, err
	}
	p.trim()
	times := newTimes(p.host.weights)
	if err := p.begin(ctx, r, len(sched.Timesteps())); err != nil {
		return nil, err
	}
	defer func() {
		tile := p.tile
		stats, stopped := p.finish()
		if stopped != nil {
			err = errors.Join(err, stopped)
		}
		if res != nil {
			res.Offload = stats
			if tile > 0 {
				res.Warnings = append(res.Warnings, fmt.Sprintf("decoded in tiles of %d pixels to fit the budget: pixels differ slightly from a decode in one piece", tile))
			}
		}
	}()
	times.lap()
	cond, err := p.condition(ctx, r)
	if err != nil {
		return nil, err
	}
	times.Text = times.lap()
	noise := torchrand.New(*r.Seed)
	latents := p.start(r, sched, noise)
	if err := p.denoise(ctx, r, sched, cond, latents, noise, times); err != nil {
		return nil, err
	}
	res = &Result{Seed: *r.Seed, Steps: len(sched.Timesteps()), Warnings: cond.warnings}
	res.Images, err = p.decode(ctx, r, latents)
	times.Decode, times.Load = times.lap(), p.host.weights.Took()-times.took
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
func (p *TextToImage) start(r Request, sched Scheduler, noise *torchrand.Generator) []float32 {
	latents := make([]float32, p.latentShape(r).TotalSize())
	if r.Latents != nil {
		copy(latents, contiguous(r.Latents))
	} else {
		noise.Randn(latents)
	}
	for i := range latents {
		latents[i] *= sched.InitNoiseSigma()
	}
	return latents
}

// denoiser is the input of the UNet.
type denoiser struct {
	nodes    unet.Inputs
	sample   []float32 // [B h w L]
	timestep []float32 // [B 1]
	context  []float32 // [B S C]
	pooled   []float32 // [B P]    SDXL
	timeIDs  []float32 // [B 6]    SDXL
}

func (p *TextToImage) buildUNet(s layers.Scope, b, h, w, tokens int) (denoiser, []*G.Node, error) {
	in := unet.NewInputs(s, p.unet, b, h, w, tokens)
	out, err := unet.Build(s, p.unet, in)
	if err != nil {
		return denoiser{}, nil, err
	}
	d := denoiser{nodes: in}
	return d, []*G.Node{out}, d.bind(in.Sample, in.Timestep, in.Context, in.Pooled, in.TimeIDs)
}

// bind gives memory to those of the inputs that are listed and exist.
func (d *denoiser) bind(leaves ...*G.Node) (err error) {
	into := map[*G.Node]*[]float32{d.nodes.Sample: &d.sample, d.nodes.Timestep: &d.timestep, d.nodes.Context: &d.context,
		d.nodes.Pooled: &d.pooled, d.nodes.TimeIDs: &d.timeIDs}
	for _, n := range leaves {
		if n == nil {
			continue
		}
		if *into[n], err = bind[float32](n); err != nil {
			return err
		}
	}
	return nil
}

// denoise takes the latents through every step, in place.
func (p *TextToImage) denoise(ctx context.Context, r Request, sched Scheduler, cond conditioning, latents []float32, noise *torchrand.Generator, times *times) error {
	shape := p.latentShape(r)
	c, h, w := shape[1], shape[2], shape[3]
	timesteps := sched.Timesteps()
	n, err := p.denoising(cond.rows, h, w, cond.tokens, len(timesteps))
	if err != nil {
		return err
	}
	if err := n.prepare(ctx, cond, timesteps, p.opt.checks); err != nil {
		return err
	}

	model := make([]float32, len(latents)*cond.rows/shape[0]) // the UNet's output, channels first
	scaled := make([]float32, len(latents))
	for i, t := range timesteps {
		copy(scaled, latents)
		sched.ScaleModelInput(scaled, i)
		for row := range cond.rows {
			image := len(latents) / shape[0]
			channelsLast(n.in.sample[row*image:][:image], scaled[row%shape[0]*image:][:image], c)
		}
		n.step(i, t)
		if err := n.loop.evaluate(ctx, i, p.opt.checks); err != nil {
			return err
		}
		out := n.loop.runner.Output(0).F32()
		for row := range cond.rows {
			image := len(latents) / shape[0]
			channelsFirst(model[row*image:][:image], out[row*image:][:image], c)
		}
		pred := model[:len(latents)]
		if cond.rows > shape[0] {
			guide(model, r.GuidanceScale, r.GuidanceRescale, shape[0])
		}
		if err := sched.Step(pred, latents, i, StepOptions{Eta: r.Eta, Noise: noise.Randn}); err != nil {
			return err
		}
		if !finite(latents) {
			return &NonFiniteError{i, sched.Name()}
		}
		times.Steps = append(times.Steps, times.lap())
		if r.OnStepEnd != nil {
			err := p.host.callback(func() error { return r.OnStepEnd(Step{i, len(timesteps), t, latents}) })
			if err != nil {
				return err
			}
			if !finite(latents) {
				return &NonFiniteError{i, "OnStepEnd"}
			}
			times.lap()
		}
	}
	return nil
}

// guide replaces the first half of a prediction, for the negative prompt, by classifier-free guidance: away
// from it, towards the second half, by scale. rescale brings the spread of each of n pictures back towards
// that of the second half (rescale_noise_cfg of diffusers; section 3.4 of arXiv 2305.08891).
func guide(model []float32, scale, rescale float32, n int) {
	neg, pos := model[:len(model)/2], model[len(model)/2:]
	for i := range neg {
		neg[i] += scale * (pos[i] - neg[i])
	}
	if rescale == 0 {
		return
	}
	size := len(neg) / n
	for b := range n {
		guided := neg[b*size:][:size]
		ratio := float32(spread(pos[b*size:][:size]) / spread(guided))
		for i, v := range guided {
			guided[i] = rescale*(v*ratio) + (1-rescale)*v
		}
	}
}

// spread is the standard deviation, torch's, over n-1.
func spread(x []float32) float64 {
	var sum, squares float64
	for _, v := range x {
		sum += float64(v)
	}
	mean := sum / float64(len(x))
	for _, v := range x {
		squares += (float64(v) - mean) * (float64(v) - mean)
	}
	return math.Sqrt(squares / float64(len(x)-1))
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
