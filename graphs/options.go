package graphs

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/seam"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// Option is a choice made for a runtime, a VM or what is built on them, as a pipeline. One that has no effect there is
// an error.
type Option interface{ apply(*options) }

// option is an Option of this package.
type option func(*options)

func (o option) apply(to *options) { o(to) }

// Custom is an Option of a package that builds on runtimes: it takes its own out of the list before it opens one, which
// refuses those that are left.
type Custom struct {
	Name  string // the function that made it
	For   string // "a pipeline"
	Value any
}

func (c Custom) apply(to *options) { to.onlyFor(c.For, c.Name) }

type options struct {
	threads      int
	checks       bool // of every operation
	outputChecks bool
	trace        bool
	device       DeviceOption
	memory       *HostMemory
	sources      []loader.Source
	models       []*loader.Model // of the sources: those that are checked
	outputs      []*G.Node       // of NewVM
	only         []only
	seam         *seam.Seam

	strategies []offload.Strategy // one, or it is an error
	hooks      []*Hook
	kernels    []string // PTX
}

// only is an option that is for one kind of user.
type only struct{ kind, option string }

func (o *options) onlyFor(kind, option string) { o.only = append(o.only, only{kind, option}) }

// gather applies the options of a kind of user, who has an effect for all that are given.
func gather(kind string, opts []Option) (*options, error) {
	o := &options{seam: &seam.Seam{}}
	for _, opt := range opts {
		if opt != nil {
			opt.apply(o)
		}
	}
	for _, only := range o.only {
		if only.kind != kind {
			return nil, fmt.Errorf("%s has no effect on %s: it is an option of %s", only.option, kind, only.kind)
		}
	}
	return o, o.openModels()
}

// WithThreads sets the number of threads, at most 1,024; 0, the default, takes one per core.
func WithThreads(n int) Option { return option(func(o *options) { o.threads = n }) }

// WithDevice has everything run on a device.
func WithDevice(d DeviceOption) Option { return option(func(o *options) { o.device = d }) }

// WithHostMemory has large buffers count against a budget.
func WithHostMemory(m *HostMemory) Option { return option(func(o *options) { o.memory = m }) }

// WithOffload runs everything in the device memory a strategy plans. The results are the same, to the bit.
func WithOffload(s offload.Strategy) Option {
	return option(func(o *options) { o.strategies = append(o.strategies, s) })
}

// WithPlan runs a plan made before. It must be for the same stages, or for the same model and request.
func WithPlan(p *offload.Plan) Option { return WithOffload(offload.Replay(p)) }

// WithFiniteChecks looks at the result of every operation and ends a run with a *NonFiniteError at the first value
// that is infinite or not a number.
func WithFiniteChecks() Option { return option(func(o *options) { o.checks = true }) }

// WithOutputChecks ends a run with a *NonFiniteError where an output of a stage is infinite or not a number; a value
// that goes lost on the way stays unseen. Pipelines always do it, so that no picture is silently black.
func WithOutputChecks() Option { return option(func(o *options) { o.outputChecks = true }) }

// WithTrace notes when every call and copy of an offloaded run ran, for OffloadStats.Events.
func WithTrace() Option { return option(func(o *options) { o.trace = true }) }

// WithSeam is for tests of this module.
func WithSeam(s *seam.Seam) Option { return option(func(o *options) { o.seam = s }) }

// OptionError is an option that cannot be.
type OptionError struct{ Option, Problem string }

func (e *OptionError) Error() string { return e.Option + " " + e.Problem }
