package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/sched"
	"gorgonia.org/tensor"
)

// Job is a request in its parts, for a loop of the program's own. Generate is no more than these calls:
//
//	job, err := p.NewJob(req)
//	run, err := job.Begin(ctx)
//	cond, err := job.EncodePrompt(ctx, run)
//	err = job.Prepare(ctx, run, cond)
//	job.SetLatents(job.Noise())
//	for i := job.First(); i < job.Steps(); i++ {
//		err = job.Step(ctx, run, i)
//	}
//	images, err := job.Decode(ctx, run, job.Latents())
//	stats, err := run.End()
//
// Steps may be left out at the end, after SeeLatents, and stages of the program's own put before the job's. A job is used
// by one goroutine, and its parts between Begin and End.
type Job struct {
	p        *TextToImage
	req      Request // resolved
	course   *course
	shape    tensor.Shape // of the latents: [N L h w]
	loop     *denoising
	noise    *Noise
	tile     int // pixels of the VAE's tiles, 0 for the pipeline's own choice
	rows     int // of the UNet's batch
	tokens   int
	texts    map[int][]int // sides that are encoded, by the layers left out
	sides    []side
	prepared bool // in this run
	fetched  bool // latents come to the host after every step

	networks map[string]any // that it uses, by component and shape
}

// NewJob resolves a request, as Generate does, and compiles what it runs.
func (p *TextToImage) NewJob(req Request) (*Job, error) { return p.newJob(req, 0, false) }

// NewJobFrom is NewJob for image-to-image and inpainting: the job begins with step first, of sched.FirstStep, and the
// latents it is given are those that the scheduler's Mix makes for that step.
func (p *TextToImage) NewJobFrom(req Request, first int) (*Job, error) {
	return p.newJob(req, first, true)
}

func (p *TextToImage) newJob(req Request, first int, fromImage bool) (j *Job, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	r, err := p.Resolve(req)
	if err != nil {
		return nil, err
	}
	c, err := p.course(r, first, fromImage)
	if err != nil {
		return nil, err
	}
	j = &Job{p: p, req: r, course: c, shape: p.latentShape(r), noise: NewNoise(*r.Seed), sides: p.sides(r),
		fetched: r.OnStepEnd != nil, networks: map[string]any{}}
	j.texts, j.rows, j.tokens = toEncode(j.sides), len(j.sides)*r.NumImagesPerPrompt, p.tokens(j.sides)
	j.loop, err = j.denoising()
	return j, err
}

func (p *TextToImage) latentShape(r Request) tensor.Shape {
	return tensor.Shape{r.NumImagesPerPrompt, p.unet.InChannels, r.Height / p.vae.Scale(), r.Width / p.vae.Scale()}
}

// Request is the job's, with every default filled in.
func (j *Job) Request() Request { return j.req }

// First is the step that the job begins with.
func (j *Job) First() int { return j.course.first }

// Steps is how many steps there are, those before First among them.
func (j *Job) Steps() int { return len(j.course.steps) }

// Timesteps are what the UNet is told in each step.
func (j *Job) Timesteps() []float32 { return j.course.timesteps }

// Scheduler is the request's. Its run has been set up.
func (j *Job) Scheduler() sched.Scheduler { return j.course.Scheduler }

// LatentShape is that of the latents: [N L h w].
func (j *Job) LatentShape() []int { return j.shape }

// Seed is where the job's noise comes from, in the order of its use: Noise, and in each step that draws some.
func (j *Job) Seed() *Noise { return j.noise }

// SeeLatents has latents come to the host after every step, so that Latents and SetLatents may be called there. It is
// called before Begin.
func (j *Job) SeeLatents() { j.fetched = true }

// Stages are what the job runs, in order: the text encoders, what is the same in all steps, the loop, the VAE's decoder.
// On a runtime with a strategy that is what is planned.
func (j *Job) Stages() (stages []graphs.Stage, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	return j.stages()
}

func (j *Job) stages() (all []graphs.Stage, err error) {
	p := j.p
	for _, skip := range slices.Sorted(maps.Keys(j.texts)) {
		for k, e := range p.encoders {
			n, err := j.encoder(e, len(j.texts[skip]), p.textOptions(k, skip))
			if err != nil {
				return nil, err
			}
			all = append(all, graphs.Stage{VM: n.VM, Component: e.component, Keep: n.out})
		}
	}
	all = append(all, j.loop.stages(j.Steps()-j.First(), j.fetched)...)
	decode := func(_, _, h, w int) error {
		n, err := j.decoder(h, w)
		if err != nil {
			return err
		}
		if last := &all[len(all)-1]; last.VM == n.VM {
			last.Passes++
		} else {
			all = append(all, graphs.Stage{VM: n.VM, Component: "vae", Passes: 1, Keep: n.out})
		}
		return nil
	}
	tiles, tiled := p.tiles(j.shape[2], j.shape[3], j.tile)
	for range j.shape[0] {
		if tiled {
			err = tiles.Each(j.shape[2], j.shape[3], decode)
		} else {
			err = decode(0, 0, j.shape[2], j.shape[3])
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Begin begins a run of stages of the program's own, if any, and then the job's. Where a budget is too small for the
// VAE's activations the picture is decoded in the largest tiles that fit.
func (j *Job) Begin(ctx context.Context, before ...graphs.Stage) (run *graphs.Run, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	j.prepared = false
	err = j.fitTiles(j.p.Planned(), func(stages []graphs.Stage) error {
		run, err = j.p.Runtime.Begin(ctx, slices.Concat(before, stages))
		return err
	})
	return run, err
}

// maxPhases bounds the phases of a plan, whose time grows with their square. The most of a real model is a tenth of it.
const maxPhases = 4096

// fitTiles finds the largest tiles with which the job's stages can be planned. Where not even the smallest are enough the
// error is that without tiles, with the smallest budget that works with some.
func (j *Job) fitTiles(planned bool, try func(stages []graphs.Stage) error) (first error) {
	var budget *offload.BudgetError // first
	for j.tile = range j.tileSizes() {
		stages, err := j.stages()
		if err != nil {
			return err
		}
		if r := j.req; len(stages) > maxPhases && planned {
			return &RequestError{"num_images_per_prompt", fmt.Sprintf("is %d of %dx%d pixels, whose tiles are more than "+
				"the %d parts that are planned; ask for fewer at a time", r.NumImagesPerPrompt, r.Width, r.Height, maxPhases)}
		}
		var small *offload.BudgetError
		if err = try(stages); !errors.As(err, &small) {
			return err
		}
		if first == nil {
			first, budget = err, small
		}
		budget.Smallest = min(budget.Smallest, small.Smallest)
	}
	return first
}

// tileSizes are the pixels of the VAE's tiles to be tried, the largest first; 0 is the whole picture, or the pipeline's
// own tiles.
func (j *Job) tileSizes() iter.Seq[int] {
	return func(yield func(int) bool) {
		if !yield(0) {
			return
		}
		// A tile's overlap, a quarter of it, must be whole latents.
		unit := 4 * j.p.vae.Scale()
		for eighths := 7; eighths > 0; eighths-- {
			tile := max(j.req.Height, j.req.Width) * eighths / 8 / unit * unit
			if tile < 2*unit || !yield(tile) {
				return
			}
		}
	}
}

// Noise is the latents that the first step denoises, [N L h w]: the request's, or of the seed, as strong as the scheduler
// wants them.
func (j *Job) Noise() []float32 {
	latents := make([]float32, j.shape.TotalSize())
	if j.req.Latents != nil {
		copy(latents, contiguous(j.req.Latents))
	} else {
		j.noise.Randn(latents)
	}
	for i := range latents {
		latents[i] *= j.course.InitNoiseSigma()
	}
	return latents
}

// SetLatents gives the loop its latents, [N L h w], before its first step, or with SeeLatents after any.
func (j *Job) SetLatents(latents []float32) {
	state := j.loop.in.state
	eachImage(channelsLast, state[:len(latents)], latents, j.shape)
}

// Latents are those after the last step, or with SeeLatents after the latest, [N L h w].
func (j *Job) Latents() []float32 {
	latents := make([]float32, j.shape.TotalSize())
	eachImage(channelsFirst, latents, j.loop.in.state[:len(latents)], j.shape)
	return latents
}

// Prepare runs what does not depend on the latents: Note [Step-invariant work]. What the scheduler keeps of earlier steps
// is cleared.
func (j *Job) Prepare(ctx context.Context, run *graphs.Run, c Conditioning) (err error) {
	defer stack.Add(&err)
	if err := c.check(j); err != nil {
		return err
	}
	clear(j.loop.in.state)
	err = j.loop.prepare(ctx, run, c, j.course.timesteps[j.First():])
	j.prepared = err == nil
	return err
}

// Step takes the latents past step i.
func (j *Job) Step(ctx context.Context, run *graphs.Run, i int) (err error) {
	defer stack.Add(&err)
	switch {
	case !j.prepared:
		return errors.New("a step is taken before Prepare")
	case i < j.First() || i >= j.Steps():
		return fmt.Errorf("step %d is taken, of %d to %d", i, j.First(), j.Steps()-1)
	}
	n := j.loop
	n.step(i-j.First(), j.course.timesteps[i])
	j.course.steps[i].Coefficients(n.in.step)
	if j.course.steps[i].Draws {
		fresh := make([]float32, j.shape.TotalSize())
		j.noise.Randn(fresh)
		eachImage(channelsLast, n.in.noise, fresh, j.shape)
	}
	if err = run.Pass(ctx, n.vm); err != nil {
		return ofStep(i, err)
	}
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
