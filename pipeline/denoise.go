package pipeline

import (
	"errors"
	"fmt"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/sched"
	"github.com/euryale-ml/euryale/unet"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// course is the steps of a request: its scheduler's, with its guidance.
type course struct {
	sched.Scheduler
	timesteps []float32
	steps     []sched.Step
	first     int  // step that is taken; those before it are not made
	noisy     bool // noise is drawn in some step
}

// course is that of a request from a step on; fromImage is sched.Run's.
func (p *TextToImage) course(r Request, first int, fromImage bool) (*course, error) {
	if err := p.checkScheduler(r); err != nil {
		return nil, err
	}
	m, err := p.schedulerOf(r)
	if err != nil {
		return nil, err
	}
	run, _, err := r.run()
	if err != nil {
		return nil, err
	}
	run.First, run.FromImage = first, fromImage
	if err := sched.Begin(m, run); err != nil {
		return nil, requestError(err)
	}
	c := &course{Scheduler: m, timesteps: m.Timesteps(), first: first}
	for i := range c.timesteps {
		if i < first {
			c.steps = append(c.steps, sched.Step{})
			continue
		}
		s := m.Step(i, r.Eta)
		s.Guidance, s.Rescale = r.GuidanceScale, r.GuidanceRescale
		c.noisy = c.noisy || s.Draws
		c.steps = append(c.steps, s)
	}
	return c, c.check()
}

// run is what the scheduler is asked to do, and the number of its steps, which a resolved request with a list has, too.
func (r Request) run() (run sched.Run, steps int, err error) {
	if r.Timesteps == nil && r.Sigmas == nil {
		return sched.Run{Steps: r.NumInferenceSteps}, r.NumInferenceSteps, nil
	}
	run = sched.Run{Timesteps: r.Timesteps, Sigmas: r.Sigmas}
	if steps, err = run.Count(); err != nil {
		return run, 0, requestError(err)
	}
	if n := r.NumInferenceSteps; n != 0 && n != steps {
		return run, 0, &RequestError{"num_inference_steps",
			fmt.Sprintf("is %d, but %d steps are listed; leave it out", n, steps)}
	}
	return run, steps, nil
}

// schedulerOf makes the scheduler of a request.
func (p *TextToImage) schedulerOf(r Request) (sched.Scheduler, error) {
	if s := r.CustomScheduler; s != nil {
		if n := s.Samples(); n < 1 || n > sched.MaxState {
			return nil, &RequestError{"scheduler", fmt.Sprintf("%s keeps %d samples, want 1 to %d", s.Name(), n, sched.MaxState)}
		}
		return s, nil
	}
	s, err := sched.New(p.scheduler, r.Scheduler)
	return s, requestError(err)
}

// requestError makes an error of package sched one of the request.
func requestError(err error) error {
	var e *sched.Error
	if errors.As(err, &e) {
		return &RequestError{e.Field, e.Problem}
	}
	return err
}

// check refuses what a scheduler of the user's own may get wrong.
func (c *course) check() error {
	if len(c.steps) == 0 {
		return &RequestError{"scheduler", c.Name() + " has no timesteps"}
	}
	for i, s := range c.steps {
		if i >= c.first && len(s.Rows) != c.Samples() {
			return &RequestError{"scheduler", fmt.Sprintf("%s: step %d makes %d samples, want the %d that it keeps", c.Name(), i, len(s.Rows), c.Samples())}
		}
	}
	return nil
}

// denoiser is the input of the denoising loop: the UNet's, and what a step needs.
type denoiser struct {
	nodes    unet.Inputs
	timestep []float32 // [B 1]
	context  []float32 // [B S C]
	pooled   []float32 // [B P]    SDXL
	timeIDs  []float32 // [B 6]    SDXL

	state []float32 // [K*N h w L]   the latents first, then what the scheduler keeps
	step  []float32 // [sched.StepSize]
	noise []float32 // [N h w L]     if the scheduler adds any
}

// bind gives memory to those of the UNet's inputs that are listed and exist.
func (d *denoiser) bind(leaves ...*G.Node) (err error) {
	into := map[*G.Node]*[]float32{d.nodes.Timestep: &d.timestep, d.nodes.Context: &d.context,
		d.nodes.Pooled: &d.pooled, d.nodes.TimeIDs: &d.timeIDs}
	for _, n := range leaves {
		if n == nil {
			continue
		}
		if *into[n], err = graphs.Bind[float32](n); err != nil {
			return err
		}
	}
	return nil
}

// rows is the UNet's batch.
func (d *denoiser) rows() int { return d.nodes.Sample.Shape()[0] }

// loop is the graph of a step.
type loop struct {
	in    denoiser
	state *G.Node // a leaf: what the step begins with
	model *G.Node // [B h w L]   the UNet's output

	end   *G.Node // what it ends with
	flags *G.Node // layers.NonFinite of the UNet's output and that
}

// outputs are those of the step's graph.
func (l *loop) outputs() []*G.Node { return []*G.Node{l.end, l.flags} }

// buildLoop adds a step to a graph: the latents scaled, the UNet, guidance, the scheduler's step.
func (p *TextToImage) buildLoop(c *course, n, rows, h, w, tokens int) (l loop, err error) {
	g := G.NewGraph()
	s, ss := layers.NewScope(g, "unet", p.parameters["unet"]), layers.NewScope(g, "scheduler", layers.Declared{})
	l.state = ss.Input("state", G.Float32, c.Samples()*n, h, w, p.unet.InChannels)
	step := ss.Input("coefficients", G.Float32, sched.StepSize)
	var noise *G.Node
	if c.noisy {
		noise = ss.Input("noise", G.Float32, n, h, w, p.unet.InChannels)
		if l.in.noise, err = graphs.Bind[float32](noise); err != nil {
			return l, err
		}
	}
	if l.in.state, err = graphs.Bind[float32](l.state); err != nil {
		return l, err
	}
	if l.in.step, err = graphs.Bind[float32](step); err != nil {
		return l, err
	}
	in := unet.NewInputs(s, p.unet, rows, h, w, tokens)
	if in.Sample, err = layers.ScaleModelInput(ss, l.state, step, n, rows); err != nil {
		return l, err
	}
	if l.model, err = p.buildUNet(s, in); err != nil {
		return l, err
	}
	prediction := l.model
	if p.settings.guidance != nil && rows > n {
		if prediction, err = p.settings.guidance(ss.Sub("guidance"), l.model, step); err != nil {
			return l, err
		}
		if want := (tensor.Shape{n, h, w, p.unet.OutChannels}); !prediction.Shape().Eq(want) {
			return l, fmt.Errorf("guidance of WithGuidance is of shape %v, want %v", prediction.Shape(), want)
		}
	}
	if l.end, err = layers.SchedulerStep(ss, l.state, prediction, step, noise, n); err != nil {
		return l, err
	}
	if l.flags, err = layers.NonFinite(ss, l.model, l.end); err != nil {
		return l, err
	}
	l.in.nodes = in
	return l, l.in.bind(in.Timestep, in.Context, in.Pooled, in.TimeIDs)
}

// faulty is the first layer of a step that returned a value that is not finite.
func (l *loop) faulty(scheduler string) func() string {
	return func() string {
		flags := values(l.flags)
		for i, layer := range []string{l.model.Name(), scheduler} {
			for _, f := range flags[i*len(flags)/2:][:len(flags)/2] {
				if f != 0 {
					return layer
				}
			}
		}
		return ""
	}
}
