package graphs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/internal/stack"
	"gorgonia.org/tensor"
)

// Note [Hooks]
//
// Hooks are called in the order in which they were added, around the calls that they match; which those are is found
// once per stage of a run, so that a hook costs nothing elsewhere. Before and After see what runs and no tensors: on a
// device they do not keep calls from being launched together as a graph, and are called for all of a graph's calls
// before it is issued, and after. Instead and See have the call issued alone, and copy from a device what they ask for.
// Hooks are the user's functions: they may close the runtime, and panic.

// Hook is called around calls: the operations that a graph was compiled into. Each of its functions may be nil. An error
// ends the run.
type Hook struct {
	// The calls it is for. Layer is a checkpoint name, or the beginning of some up to a dot ("unet.mid_block"); Op is the
	// name of an operation ("Conv"). Empty is any.
	Component, Layer, Op string

	// Before and After are called around a call.
	Before, After func(Call) error
	// Instead is called before a call, with its inputs. If it returns true it has set Out, and the call is not run, nor
	// are the Instead functions of later hooks.
	Instead func(Call, *Tensors) (bool, error)
	// See is called with the result of a call, also one that was replaced, before anything reads it. It may change it.
	See func(Call, *Tensors) error
}

// Call is a call as a hook sees it.
type Call struct {
	Component, Stage string // names of the stage
	Pass             int    // of the stage, from 0: of the UNet's loop, the step
	Index            int    // of the graph's calls
	Layer            string // checkpoint name
	Op               string // operation, as "Conv"; of a fused call, the first
	In               []tensor.Shape
	Out              tensor.Shape
	FLOPs            int64         // of products, convolutions and attention
	Bytes            int64         // read and written, weights included
	Weights          int           // bytes of the weights it reads
	Clock            time.Duration // since the run was begun
}

// Tensors are the inputs and the result of a call, where they lie. They are valid until the hook returns.
type Tensors struct {
	In  []Tensor
	Out Tensor
}

// Tensor is one tensor of a call.
type Tensor struct {
	runner *program.Runner
	pool   *cpu.Pool
	value  int
}

// Float32 copies the tensor, from the device if it is there.
func (t Tensor) Float32() (_ []float32, err error) {
	defer stack.Add(&err)
	a, err := t.floats()
	return slices.Clone(a.F32()), err
}

// floats views the tensor, or a copy of it.
func (t Tensor) floats() (program.Arg, error) {
	a, err := t.runner.Read(t.value)
	if err == nil && a.DType != dtype.F32 {
		err = fmt.Errorf("a tensor of %v is read as float32", a.DType)
	}
	if err != nil {
		a = program.Arg{DType: dtype.F32}
	}
	return a, err
}

// Set changes the tensor, which must be a result.
func (t Tensor) Set(x []float32) error { return stack.With(t.runner.Write(t.value, x)) }

// Shape is the tensor's.
func (t Tensor) Shape() tensor.Shape { return t.runner.Program().Values[t.value].Shape }

// Summary is the least, the largest and the mean of a tensor's numbers, and how many are not finite.
type Summary = cpu.Summary

// Summary looks at every number of the tensor.
func (t Tensor) Summary() (_ Summary, err error) {
	defer stack.Add(&err)
	a, err := t.floats()
	if err != nil {
		return Summary{}, err
	}
	return t.pool.Summarize(a.F32()), nil
}

// WithHooks adds hooks from the beginning.
func WithHooks(h ...Hook) Option {
	return option(func(o *options) {
		for i := range h {
			o.hooks = append(o.hooks, &h[i])
		}
	})
}

// AddHook adds a hook for the runs that begin afterwards, until remove is called, which may be more than once.
func (rt *Runtime) AddHook(h Hook) (remove func()) {
	rt.hooking.Lock()
	defer rt.hooking.Unlock()
	added := &h
	rt.opt.hooks = append(slices.Clip(rt.opt.hooks), added)
	return func() {
		rt.hooking.Lock()
		defer rt.hooking.Unlock()
		rt.opt.hooks = slices.DeleteFunc(slices.Clone(rt.opt.hooks), func(h *Hook) bool { return h == added })
	}
}

// hooks are those of a run that begins.
func (rt *Runtime) hooks() []*Hook {
	rt.hooking.Lock()
	defer rt.hooking.Unlock()
	return rt.opt.hooks
}

// matches reports whether the hook is for a call.
func (h *Hook) matches(c *Call) bool {
	rest, ok := strings.CutPrefix(c.Layer, h.Layer)
	return ok && (h.Layer == "" || rest == "" || rest[0] == '.') &&
		(h.Component == "" || h.Component == c.Component) && (h.Op == "" || h.Op == c.Op)
}

// watch tells a run's hooks of a stage's calls. It is a program.Watcher.
type watch struct {
	host   *host
	ctx    context.Context // of the pass
	begun  time.Time
	runner *program.Runner
	pass   int
	calls  []watched // of the stage
}

// watched is a call, and who is told of it: nobody, of most.
type watched struct {
	Call
	hooks []*Hook
	looks bool
}

// watch makes the watcher of a stage, nil if no hook matches one of its calls.
func (r *Run) watch(s *Stage) *watch {
	if len(r.hooks) == 0 {
		return nil
	}
	w, any := &watch{host: r.rt.host, begun: r.begun}, false
	prog := s.VM.prog
	w.calls = make([]watched, len(prog.Calls))
	for i := range w.calls {
		c := &w.calls[i]
		c.Call = r.rt.host.describe(prog, i)
		c.Component, c.Stage = s.Component, s.Name
		for _, h := range r.hooks {
			if h.matches(&c.Call) {
				c.hooks, any = append(c.hooks, h), true
				c.looks = c.looks || h.Instead != nil || h.See != nil
			}
		}
	}
	if !any {
		return nil
	}
	return w
}

// describe is call i of a program.
func (h *host) describe(prog *program.Program, i int) Call {
	c := prog.Calls[i]
	out := prog.Values[c.Out]
	call := Call{Index: i, Layer: c.Layer, Out: out.Shape, FLOPs: c.FLOPs, Bytes: int64(out.Bytes)}
	call.Op, _, _ = strings.Cut(fmt.Sprint(c.Op), "{")
	for _, in := range c.In {
		v := prog.Values[in]
		call.In = append(call.In, v.Shape)
		if v.Kind != program.Weight {
			call.Bytes += int64(v.Bytes)
			continue
		}
		n := h.weights.WeightBytes(prog, v)
		call.Weights += n
		call.Bytes += int64(n)
	}
	return call
}

// told calls a function of each hook of a call.
func (w *watch) told(i int, f func(*Hook, Call) error) error {
	c := &w.calls[i]
	if len(c.hooks) == 0 {
		return nil
	}
	c.Pass, c.Clock = w.pass, time.Since(w.begun)
	for _, h := range c.hooks {
		if err := w.host.callback(func() error { return f(h, c.Call) }); err != nil {
			return err
		}
		if err := w.ctx.Err(); err != nil { // the hook may have cancelled the run
			return err
		}
	}
	return nil
}

// Before implements program.Watcher.
func (w *watch) Before(i int) error {
	return w.told(i, func(h *Hook, c Call) error {
		if h.Before == nil {
			return nil
		}
		return h.Before(c)
	})
}

// After implements program.Watcher.
func (w *watch) After(i int) error {
	return w.told(i, func(h *Hook, c Call) error {
		if h.After == nil {
			return nil
		}
		return h.After(c)
	})
}

// Looks implements program.Watcher.
func (w *watch) Looks(i int) bool { return w.calls[i].looks }

// Instead implements program.Watcher.
func (w *watch) Instead(i int) (done bool, err error) {
	err = w.told(i, func(h *Hook, c Call) (err error) {
		if h.Instead != nil && !done {
			done, err = h.Instead(c, w.tensors(i))
		}
		return err
	})
	return done, err
}

// See implements program.Watcher.
func (w *watch) See(i int) error {
	return w.told(i, func(h *Hook, c Call) error {
		if h.See == nil {
			return nil
		}
		return h.See(c, w.tensors(i))
	})
}

func (w *watch) tensors(i int) *Tensors {
	c := w.runner.Program().Calls[i]
	t := &Tensors{Out: Tensor{w.runner, w.host.pool, c.Out}}
	for _, in := range c.In {
		t.In = append(t.In, Tensor{w.runner, w.host.pool, in})
	}
	return t
}

// traced tells tests of operations.
type traced struct {
	program.Unwatched
	runner *program.Runner
	op     func(layer string)
}

func (t traced) Before(i int) error {
	t.op(t.runner.Program().Calls[i].Layer)
	return nil
}
