package graphs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/offload"
)

// Note [Offloading]
//
// With a strategy the pipeline runs on a device with memory of its own: one arena of exactly the plan's peak.
// What an image will run is known from the request: session lists the compiled graphs in order, the strategy
// plans them, the engine copies. Each graph's values are bound to their places in the arena once, since a plan
// gives every weight one address; the engine says when a weight's bytes are there.

// WithOffload runs the pipeline in the device memory a strategy plans. The pictures are the same, to the bit.
func WithOffload(s offload.Strategy) Option {
	return func(o *options) { o.strategies = append(o.strategies, s) }
}

// WithPlan runs a plan made before. It must be for the same model and request.
func WithPlan(p *offload.Plan) Option { return WithOffload(replay{p}) }

type replay struct{ plan *offload.Plan }

func (r replay) Name() string                                   { return r.plan.Strategy }
func (r replay) Plan(*offload.Inventory) (*offload.Plan, error) { return r.plan, nil }

// WithHooks calls before and after, either of which may be nil, around every call of a kernel.
func WithHooks(before, after func(HookEvent)) Option {
	return func(o *options) { o.before, o.after = before, after }
}

// WithTrace notes when every call and copy of an offloaded image ran, for OffloadStats.Events.
func WithTrace() Option { return func(o *options) { o.trace = true } }

// HookEvent is a call as a hook sees it.
type HookEvent struct {
	Component string
	Layer     string        // checkpoint name
	Pass      int           // of the component's graph in this image: the step of the UNet's loop
	Weights   int           // bytes of the weights it reads
	Clock     time.Duration // since the image was begun
}

// SetOffload changes the strategy for the images to come; nil goes back to running without a device. Nothing of
// the earlier strategy stays.
func (p *TextToImage) SetOffload(s offload.Strategy) error {
	return p.host.do(context.Background(), func(context.Context) error {
		p.endSession()
		p.opt.strategies = nil
		if s != nil {
			p.opt.strategies = []offload.Strategy{s}
		}
		return nil
	})
}

// OffloadStats is what offloading took for an image.
type OffloadStats struct {
	Strategy string
	Peak     int           // bytes of device memory
	Uploaded int64         // bytes
	CopyTime time.Duration // the copy engine was busy
	Stalled  time.Duration // calls waited for it

	Plan      *offload.Plan
	Inventory *offload.Inventory
	Events    []offload.Event // with WithTrace
}

// Hidden is the share of the copies' time behind which something was computed.
func (s *OffloadStats) Hidden() float64 {
	if s.CopyTime == 0 {
		return 1
	}
	return max(0, 1-s.Stalled.Seconds()/s.CopyTime.Seconds())
}

// session is a plan for one kind of request, ready to run.
type session struct {
	key    string
	phases []phase
	inv    *offload.Inventory
	plan   *offload.Plan
	engine *offload.Engine
	device *device.Host
	memory []byte
	hooks  *options

	runners []*program.Runner
	tile    int // pixels of the VAE's tiles, 0 for none

	begun    time.Time
	at, pass int // the phase that runs, and the passes of it begun
}

// phase is a compiled graph of an image and how often it runs.
type phase struct {
	vm              *VM
	component, name string
	passes          int
}

// phases lists what a request runs, in order.
func (p *TextToImage) phases(r Request, steps int) (all []phase, err error) {
	add := func(vm *VM, component, name string, passes int) {
		if k := len(all) - 1; k >= 0 && all[k].vm == vm {
			all[k].passes += passes
			return
		}
		all = append(all, phase{vm, component, name, passes})
	}
	sides := p.sides(r)
	texts := toEncode(sides)
	for _, skip := range slices.Sorted(maps.Keys(texts)) {
		for k, e := range p.encoders {
			n, err := p.encoder(e, len(texts[skip]), p.textOptions(k, skip))
			if err != nil {
				return nil, err
			}
			add(n.VM, e.component, "", 1)
		}
	}
	rows, shape := len(sides)*r.NumImagesPerPrompt, p.latentShape(r)
	d, err := p.denoising(rows, shape[2], shape[3], p.tokens(sides), steps)
	if err != nil {
		return nil, err
	}
	if d.text != nil {
		add(d.text, "unet", "text", 1)
	}
	if d.time != nil {
		add(d.time, "unet", "time", (steps+d.chunk-1)/d.chunk)
	}
	add(d.loop, "unet", "", steps)
	for range shape[0] {
		_, err = p.eachTile(make([]float32, shape[1]*shape[2]*shape[3]), shape[2], shape[3], func(z []float32, h, w int) ([]float32, error) {
			n, err := p.decoder(h, w)
			if err != nil {
				return nil, err
			}
			add(n.VM, "vae", "", 1)
			return make([]float32, h*w*p.vae.Scale()*p.vae.Scale()*p.vae.OutChannels), nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// tokens is the length of the text the UNet sees.
func (p *TextToImage) tokens(sides []side) int {
	for _, s := range sides {
		if s.embeds != nil {
			return s.embeds.Shape()[1]
		}
	}
	return p.encoders[0].tok.MaxLength()
}

// Inventory is what a request will run, as strategies see it. Nothing is loaded.
func (p *TextToImage) Inventory(req Request) (inv *offload.Inventory, err error) {
	defer program.Recovered(&err)
	err = p.host.do(context.Background(), func(context.Context) error {
		_, phases, err := p.list(req)
		if err == nil {
			inv, _ = p.inventory(phases)
		}
		return err
	})
	return inv, err
}

// list resolves a request and lists its phases.
func (p *TextToImage) list(req Request) (Request, []phase, error) {
	r, err := p.Resolve(req)
	if err != nil {
		return r, nil, err
	}
	sched, err := NewScheduler(p.scheduler, r.Scheduler)
	if err != nil {
		return r, nil, err
	}
	if err := sched.SetTimesteps(r.NumInferenceSteps); err != nil {
		return r, nil, err
	}
	phases, err := p.phases(r, len(sched.Timesteps()))
	return r, phases, err
}

// stored is a weight in the layout its kernel reads.
type stored struct {
	name   string
	layout program.Layout
}

// inventory turns compiled graphs into what strategies see, and lists the weights by index.
func (p *TextToImage) inventory(phases []phase) (*offload.Inventory, []stored) {
	key := describe(phases)
	if l := p.listed; l != nil && l.key == key {
		return l.inv, l.weights
	}
	inv := &offload.Inventory{}
	index := map[stored]int{}
	var list []stored
	for _, ph := range phases {
		prog := ph.vm.prog
		out := offload.Phase{Component: ph.component, Name: ph.name, Passes: ph.passes, Activations: prog.DeviceBytes()}
		tops := prog.DeviceTops()
		for i, c := range prog.Calls {
			call := offload.Call{Layer: c.Layer, FLOPs: c.FLOPs, Bytes: int64(prog.Values[c.Out].Bytes), Top: tops[i]}
			for _, in := range c.In {
				v := prog.Values[in]
				if v.Kind != program.Weight {
					call.Bytes += int64(v.Bytes)
					continue
				}
				key := stored{v.Name, v.Layout}
				w, ok := index[key]
				if !ok {
					w = len(list)
					index[key], list = w, append(list, key)
					inv.Weights = append(inv.Weights, offload.Weight{Name: v.Name, Bytes: p.host.weights.WeightBytes(v)})
				}
				call.Weights = append(call.Weights, w)
			}
			out.Calls = append(out.Calls, call)
		}
		inv.Phases = append(inv.Phases, out)
	}
	p.listed = &listing{key, inv, list}
	return inv, list
}

// listing is an inventory kept for the next request like it: strategies keep what they tried with it.
type listing struct {
	key     string
	inv     *offload.Inventory
	weights []stored
}

// Plan makes the plan for a request without running it.
func (p *TextToImage) Plan(req Request, s offload.Strategy) (plan *offload.Plan, inv *offload.Inventory, err error) {
	defer program.Recovered(&err)
	err = p.host.do(context.Background(), func(context.Context) error {
		r, phases, err := p.list(req)
		if err != nil {
			return err
		}
		plan, inv, _, _, err = p.planned(r, phases, s)
		p.tile = 0
		return err
	})
	return plan, inv, err
}

// planned plans phases. Where a budget is too small for the VAE's activations the picture is decoded in tiles,
// the largest that fit.
func (p *TextToImage) planned(r Request, phases []phase, s offload.Strategy) (*offload.Plan, *offload.Inventory, []stored, []phase, error) {
	p.tile = 0
	inv, list := p.inventory(phases)
	plan, err := s.Plan(inv)
	var small *offload.BudgetError
	steps := 0
	for _, ph := range phases {
		if ph.component == "unet" && ph.name == "" {
			steps = ph.passes
		}
	}
	first := err
	whole := max(r.Height, r.Width)
	for _, eighths := range []int{7, 6, 5, 4, 3, 2, 1} {
		if !errors.As(err, &small) {
			break
		}
		// A tile's overlap, a quarter of it, must be whole latents.
		unit := 4 * p.vae.Scale()
		if p.tile = whole * eighths / 8 / unit * unit; p.tile < 2*unit {
			break
		}
		if phases, err = p.phases(r, steps); err != nil {
			break
		}
		inv, list = p.inventory(phases)
		plan, err = s.Plan(inv)
	}
	if errors.As(err, &small) {
		err = first // not even with the smallest tiles
	}
	if err != nil {
		return nil, nil, nil, nil, err
	}
	return plan, inv, list, phases, offload.Verify(plan, inv)
}

// begin plans a request, or takes the plan of the last one like it, and starts its copies.
func (p *TextToImage) begin(ctx context.Context, r Request, steps int) error {
	if len(p.opt.strategies) == 0 {
		return nil
	}
	if len(p.opt.strategies) > 1 {
		return fmt.Errorf("offload: two strategies, %s and %s; a pipeline takes one", p.opt.strategies[0].Name(), p.opt.strategies[1].Name())
	}
	p.tile = 0
	phases, err := p.phases(r, steps)
	if err != nil {
		return err
	}
	key := describe(phases)
	if p.session == nil || p.session.key != key {
		p.endSession()
		if err := p.newSession(ctx, r, key, phases); err != nil {
			return err
		}
	}
	s := p.session
	p.tile = s.tile
	s.at, s.pass, s.begun = 0, 0, time.Now()
	p.host.session = s
	return s.engine.Start()
}

func describe(phases []phase) string {
	var b strings.Builder
	for _, ph := range phases {
		fmt.Fprintf(&b, "%s %s %p %d;", ph.component, ph.name, ph.vm, ph.passes)
	}
	return b.String()
}

// newSession plans, loads the masters, takes the device memory and binds every graph to it.
func (p *TextToImage) newSession(ctx context.Context, r Request, key string, phases []phase) error {
	plan, inv, list, phases, err := p.planned(r, phases, p.opt.strategies[0])
	if err != nil {
		return err
	}
	tile := p.tile
	for _, ph := range phases {
		if err := ph.vm.checkMemory(plan.Peak); err != nil {
			return err
		}
		if err := p.host.weights.Load(ctx, ph.vm.prog); err != nil {
			return err
		}
	}
	s := &session{key: key, phases: phases, inv: inv, plan: plan, device: device.NewHost(plan.Peak, p.host.memory), hooks: &p.opt, tile: tile}
	master := func(w int) []byte {
		if p.opt.onCopy != nil {
			p.opt.onCopy()
		}
		return p.host.weights.Master(list[w].name, list[w].layout)
	}
	if s.engine, err = offload.NewEngine(plan, inv, master, s.device.Alloc); err != nil {
		return err
	}
	s.memory = s.engine.Memory()
	p.session = s // from here on endSession frees it
	if p.opt.trace {
		s.engine.Record()
	}
	index := map[stored]int{}
	for i, k := range list {
		index[k] = i
	}
	for i, ph := range phases {
		at := s.engine.Activations(i)
		d := program.Device{Memory: s.memory[at.Offset : at.Offset+at.Bytes],
			Weight: func(name string, l program.Layout) []byte { return s.engine.Weight(i, index[stored{name, l}]) },
			Before: func(k int, c program.Call) error { return s.before(i, k) },
			After:  func(k int, c program.Call) { s.after(i, k) }}
		runner, err := program.NewDeviceRunner(ph.vm.prog, p.host.pool, p.host.weights, d)
		if err != nil {
			p.endSession()
			return err
		}
		s.runners = append(s.runners, runner)
	}
	return nil
}

// next is the runner of the graph that runs now, which must be the plan's.
func (s *session) next(vm *VM) (*program.Runner, error) {
	if s.at < len(s.phases) && s.pass == s.phases[s.at].passes {
		s.at, s.pass = s.at+1, 0
	}
	if s.at == len(s.phases) || s.phases[s.at].vm != vm {
		return nil, errors.New("internal error: a graph runs that the plan does not have next")
	}
	s.pass++
	return s.runners[s.at], nil
}

func (s *session) before(phase, call int) error {
	if err := s.engine.Before(); err != nil {
		return err
	}
	if s.hooks.before != nil {
		s.hooks.before(s.event(phase, call))
	}
	return nil
}

func (s *session) after(phase, call int) {
	if s.hooks.after != nil {
		s.hooks.after(s.event(phase, call))
	}
	s.engine.After()
}

func (s *session) event(phase, call int) HookEvent {
	c := s.inv.Phases[phase].Calls[call]
	e := HookEvent{Component: s.phases[phase].component, Layer: c.Layer, Pass: s.pass - 1, Clock: time.Since(s.begun)}
	for _, w := range c.Weights {
		e.Weights += s.inv.Weights[w].Bytes
	}
	return e
}

// finish ends an image, complete or not: no copy is under way afterwards.
func (p *TextToImage) finish() *OffloadStats {
	s := p.host.session
	p.host.session = nil
	p.tile = 0
	if s == nil {
		return nil
	}
	st := s.engine.Stop()
	return &OffloadStats{Strategy: s.plan.Strategy, Peak: s.device.Peak(), Uploaded: st.Uploaded, CopyTime: st.CopyTime, Stalled: st.Stalled,
		Plan: s.plan, Inventory: s.inv, Events: s.engine.Events()}
}

// endSession gives the device memory back.
func (p *TextToImage) endSession() {
	if p.session != nil {
		p.session.engine.Stop()
		p.session.device.Free(p.session.memory)
		for _, r := range p.session.runners {
			r.Release(p.host.weights)
		}
		p.session = nil
	}
}
