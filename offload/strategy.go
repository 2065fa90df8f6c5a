package offload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Strategy decides where weights live. A strategy of one's own may be slow, but not wrong: its plan is verified
// before it runs. Most make a Spec and Build it. One whose budget is too small for an inventory returns a *BudgetError:
// a pipeline then tries the VAE in tiles.
type Strategy interface {
	Name() string
	Plan(inv *Inventory) (*Plan, error)
}

// Make makes the plan of a strategy, which may be anybody's own, for an inventory, and proves it. A panic of the strategy
// is an error.
func Make(s Strategy, inv *Inventory) (plan *Plan, err error) {
	if s == nil {
		return nil, errors.New("offload: the strategy is nil")
	}
	name := "without a name"
	defer func() {
		if r := recover(); r != nil {
			plan, err = nil, fmt.Errorf("offload: strategy %s: panic: %v", name, r)
		}
	}()
	name = s.Name()
	plan, err = s.Plan(inv)
	switch {
	case err != nil:
		return nil, err
	case plan == nil:
		return nil, fmt.Errorf("offload: strategy %s made neither a plan nor an error", name)
	}
	if err := Verify(plan, inv); err != nil {
		return nil, err
	}
	return plan, nil
}

// Option changes a strategy.
type Option func(*options)

type options struct {
	budget  int
	window  int
	pin     int
	keep    []string
	exclude []string
	profile Profile
	most    int // bytes of the loop's weights that Auto may hold; 0: as many as fit
	limited bool
}

// Budget is the most device memory a plan may take, in bytes. A strategy that needs more is refused with a
// *BudgetError.
func Budget(bytes int) Option { return func(o *options) { o.budget = bytes } }

// Prefetch copies ahead of the calls that need the weights, through a ring of that many bytes.
func Prefetch(bytes int) Option { return func(o *options) { o.window = bytes } }

// Pin is the most page-locked host memory that the masters of the weights may take, in bytes. A model that is larger
// is refused with a *HostError.
func Pin(bytes int) Option { return func(o *options) { o.pin = bytes } }

// SettingError is a number or a name, of a Spec, an Option or a Profile, that cannot be.
type SettingError struct{ Setting, Problem string }

func (e *SettingError) Error() string { return "offload: " + e.Setting + " " + e.Problem }

// check refuses numbers that mean nothing.
func (o *options) check() error {
	for name, n := range map[string]int{"Budget": o.budget, "Prefetch": o.window, "Pin": o.pin, "Resident": o.most} {
		if n < 0 {
			return &SettingError{name, fmt.Sprintf("is %d bytes", n)}
		}
	}
	return o.profile.Check()
}

// HostError reports weights that do not fit the host's budget.
type HostError struct{ Need, Have int }

func (e *HostError) Error() string {
	return fmt.Sprintf("offload: the weights take %s of host memory, the budget is %s", mib(e.Need), mib(e.Have))
}

// Keep holds components, layers or tensors on the device while their component runs, by checkpoint name.
func Keep(names ...string) Option { return func(o *options) { o.keep = append(o.keep, names...) } }

// Exclude takes components, layers or tensors out of offloading: they are copied once and stay on the device.
func Exclude(names ...string) Option {
	return func(o *options) { o.exclude = append(o.exclude, names...) }
}

// On makes Auto plan for a device; the default is an RTX 4090 on PCIe 4.
func On(p Profile) Option { return func(o *options) { o.profile = p } }

// Resident limits the bytes of the loop's weights that Auto holds, for experiments.
func Resident(bytes int) Option { return func(o *options) { o.most, o.limited = bytes, true } }

type strategy struct {
	name string
	options
	plan func(s *strategy, inv *Inventory, fixed map[int]Residence) (*Plan, error)
}

func newStrategy(name string, opts []Option, plan func(*strategy, *Inventory, map[int]Residence) (*Plan, error)) Strategy {
	s := &strategy{name: name, plan: plan}
	s.profile, _ = ProfileByName("rtx4090-gen4")
	for _, o := range opts {
		o(&s.options)
	}
	return s
}

func (s *strategy) Name() string { return s.name }

func (s *strategy) Plan(inv *Inventory) (*Plan, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if need := inv.WeightBytes(""); s.pin > 0 && need > s.pin {
		return nil, &HostError{need, s.pin}
	}
	keep, err := inv.match(s.keep)
	if err != nil {
		return nil, err
	}
	exclude, err := inv.match(s.exclude)
	if err != nil {
		return nil, err
	}
	fixed := map[int]Residence{}
	for w := range keep {
		fixed[w] = Held
	}
	for w := range exclude {
		fixed[w] = Kept
	}
	p, err := s.plan(s, inv, fixed)
	if err != nil {
		return nil, err
	}
	if s.budget > 0 && p.Peak > s.budget {
		return nil, newBudgetError(p, inv, s.budget, s.profile)
	}
	return p, nil
}

// None keeps every weight on the device: each is copied once, before its first use.
func None(opts ...Option) Strategy {
	return newStrategy("none", opts, func(s *strategy, inv *Inventory, _ map[int]Residence) (*Plan, error) {
		return all(inv, s.name, Kept, nil), nil
	})
}

// Model holds a component at a time, as diffusers' enable_model_cpu_offload: text encoders, then the UNet for
// all steps, then the VAE. Each weight is copied once per image.
func Model(opts ...Option) Strategy {
	return newStrategy("model", opts, func(s *strategy, inv *Inventory, fixed map[int]Residence) (*Plan, error) {
		return all(inv, s.name, Held, fixed), nil
	})
}

func all(inv *Inventory, name string, stays Residence, fixed map[int]Residence) *Plan {
	spec := Spec{Stays: map[int]Residence{}, Ahead: true, MinRun: 32 << 20}
	for w := range inv.Weights {
		spec.Stays[w] = max(stays, fixed[w])
	}
	return build(inv, name, spec)
}

// Sequential takes the least memory: the weights of one call at a time, as diffusers'
// enable_sequential_cpu_offload. With Prefetch they come ahead through a ring.
func Sequential(opts ...Option) Strategy {
	return newStrategy("sequential", opts, func(s *strategy, inv *Inventory, fixed map[int]Residence) (*Plan, error) {
		return build(inv, s.name, Spec{Stays: fixed, Window: s.window, Ahead: s.window > 0}), nil
	})
}

// Group streams the weights of n neighbouring layers at a time, as diffusers' group offloading at leaf level;
// with Prefetch the next group comes while this one runs.
func Group(n int, opts ...Option) Strategy {
	return newStrategy(fmt.Sprintf("group:%d", n), opts, func(s *strategy, inv *Inventory, fixed map[int]Residence) (*Plan, error) {
		if n < 1 {
			return nil, &SettingError{"Group", fmt.Sprintf("is of %d layers, want at least 1", n)}
		}
		spec := Spec{Stays: fixed, Window: s.window, Ahead: s.window > 0}
		for i := range inv.Phases {
			var group []int
			layers, last := 0, ""
			for _, w := range inv.order(i) {
				if fixed[w] != Streamed {
					continue
				}
				name := inv.Weights[w].Name
				layer := name[:strings.LastIndexByte(name, '.')+1]
				if layer != last {
					layers, last = layers+1, layer
					if layers > n {
						spec.Groups = append(spec.Groups, group)
						group, layers = nil, 1
					}
				}
				group = append(group, w)
			}
			spec.Groups = append(spec.Groups, group)
		}
		return build(inv, s.name, spec), nil
	})
}

// Replay is the strategy of a plan made before, for the same inventory.
func Replay(p *Plan) Strategy { return replay{p} }

type replay struct{ plan *Plan }

func (r replay) Name() string {
	if r.plan == nil {
		return "replay"
	}
	return r.plan.Strategy
}

func (r replay) Plan(*Inventory) (*Plan, error) {
	if r.plan == nil {
		return nil, &SettingError{"the plan", "is nil"}
	}
	return r.plan, nil
}

// Parse reads a strategy as the command line gives it: none, model, sequential, group:N, auto. Auto without
// Budget is refused.
func Parse(text string, opts ...Option) (Strategy, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	switch name, arg, has := strings.Cut(text, ":"); {
	case name == "group" && has:
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("offload: group:%s: the number of layers is a positive number", arg)
		}
		return Group(n, opts...), nil
	case has:
	case name == "none":
		return None(opts...), nil
	case name == "model":
		return Model(opts...), nil
	case name == "sequential":
		return Sequential(opts...), nil
	case name == "auto":
		if o.budget <= 0 {
			return nil, errors.New("offload: auto needs a budget of device memory")
		}
		return Auto(o.budget, opts...), nil
	}
	return nil, fmt.Errorf("offload: strategy %q is not one of none, model, sequential, group:N, auto", text)
}

// newBudgetError says where a plan needs the most, and what would work.
func newBudgetError(p *Plan, inv *Inventory, budget int, prof Profile) error {
	e := &BudgetError{Need: p.Peak, Have: budget, Smallest: Smallest(inv), Layer: p.fullest(inv)}
	e.curve = func() []CurvePoint { return Curve(inv, prof, 5) }
	return e
}

// Smallest is the least device memory with which a pipeline runs at all: Sequential's peak.
func Smallest(inv *Inventory) int { return build(inv, "sequential", Spec{}).Peak }
