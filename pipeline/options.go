package pipeline

import (
	"cmp"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/unet"
	G "gorgonia.org/gorgonia"
)

// settings are what a pipeline can be told besides what its runtime is.
type settings struct {
	tiling    bool
	scheduler string
	everyStep bool
	guidance  func(s layers.Scope, prediction, step *G.Node) (*G.Node, error)
	seams     func(unet.Inputs) unet.Seams
	limits    Limits
}

// take applies the options that are a pipeline's own, and returns the others.
func (s *settings) take(opts []graphs.Option) (others []graphs.Option) {
	for _, o := range opts {
		if c, ok := o.(graphs.Custom); ok {
			if set, ok := c.Value.(func(*settings)); ok {
				set(s)
				continue
			}
		}
		others = append(others, o)
	}
	return others
}

func option(name string, set func(*settings)) graphs.Option {
	return graphs.Custom{Name: name, For: "a pipeline", Value: set}
}

// WithScheduler overrides the model's scheduler for requests that name none; see Request.Scheduler.
func WithScheduler(name string) graphs.Option {
	return option("WithScheduler", func(s *settings) { s.scheduler = name })
}

// WithVAETiling decodes pictures larger than the VAE's own size in overlapping tiles that are blended, as
// diffusers' enable_vae_tiling: less memory, slightly different pixels. (Pictures of a batch are always
// decoded one at a time, which diffusers calls slicing.)
func WithVAETiling() graphs.Option {
	return option("WithVAETiling", func(s *settings) { s.tiling = true })
}

// WithoutHoisting computes in every step what does not change between steps, as diffusers does: the text's keys
// and values, and the time projections. The pictures are the same.
func WithoutHoisting() graphs.Option {
	return option("WithoutHoisting", func(s *settings) { s.everyStep = true })
}

// WithGuidance replaces classifier-free guidance, where a request has it, by a function of the graph. What it returns is
// what the scheduler's step gets.
//
//	prediction [2N h w L]        the UNet's output: first the negative prompt's rows, then the prompt's
//	step       [sched.StepSize]  the step's numbers, among them at sched.AtGuidance the scale
//	result     [N h w L]
func WithGuidance(f func(s layers.Scope, prediction, step *G.Node) (*G.Node, error)) graphs.Option {
	return option("WithGuidance", func(s *settings) { s.guidance = f })
}

// WithSeams has f step into every UNet that the pipeline builds: the loop's, which runs, and others of which parts are
// computed ahead, or only the shapes are checked.
func WithSeams(f func(in unet.Inputs) unet.Seams) graphs.Option {
	return option("WithSeams", func(s *settings) { s.seams = f })
}

// buildUNet adds the UNet to a graph.
func (p *TextToImage) buildUNet(s layers.Scope, in unet.Inputs) (*G.Node, error) {
	if p.seams == nil {
		return unet.Build(s, p.unet, in)
	}
	return unet.BuildWith(s, p.unet, in, p.seams(in))
}

// Limits bound a request: beyond them it is taken for a mistake. A refusal names the limit.
type Limits struct {
	Side   int // pixels; 8,192
	Steps  int // 10,000
	Images int // 64
	Prompt int // bytes; 65,536
}

// WithLimits sets limits; fields left 0 keep their defaults.
func WithLimits(l Limits) graphs.Option {
	return option("WithLimits", func(s *settings) { s.limits = l })
}

func (s *settings) limited() Limits {
	l := s.limits
	return Limits{cmp.Or(l.Side, 8192), cmp.Or(l.Steps, 10000), cmp.Or(l.Images, 64), cmp.Or(l.Prompt, 64<<10)}
}
