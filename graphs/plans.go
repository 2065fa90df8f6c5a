package graphs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// listing is a list of stages as it is planned: its programs, which may leave values for each other on a device, its
// inventory and the plan for it.
type listing struct {
	key      string
	stages   []Stage // the key has the addresses of their VMs, which stay theirs as long as they are kept
	programs []*program.Program
	inv      *offload.Inventory
	weights  []stored // of the inventory
	plan     *offload.Plan
	tooSmall error // a *offload.BudgetError
}

// stored is a weight in the layout its kernel reads.
type stored struct {
	name   string
	layout program.Layout
}

// maxListings bounds the listings that are kept: the next list like one of them is not planned again, and strategies
// keep with an inventory what they tried.
const maxListings = 8

// listing is that of stages.
func (rt *Runtime) listing(stages []Stage) *listing {
	key := describe(stages)
	i := slices.IndexFunc(rt.listings, func(l *listing) bool { return l.key == key })
	l := &listing{key: key, stages: stages}
	if i < 0 {
		l.programs = link(stages)
		l.inv, l.weights = rt.host.inventory(l)
		if i = len(rt.listings); i == maxListings {
			i--
		} else {
			rt.listings = append(rt.listings, nil)
		}
	} else {
		l = rt.listings[i]
	}
	copy(rt.listings[1:i+1], rt.listings[:i]) // the last used comes first
	rt.listings[0] = l
	return l
}

// planned is the listing of stages with the plan of the runtime's strategy.
func (rt *Runtime) planned(stages []Stage) (*listing, error) {
	s, err := rt.strategy()
	if err != nil {
		return nil, err
	}
	l := rt.listing(stages)
	switch {
	case l.tooSmall != nil:
		return nil, l.tooSmall
	case l.plan == nil:
		if l.plan, err = offload.Make(s, l.inv); errors.As(err, new(*offload.BudgetError)) {
			l.tooSmall = err
		}
	}
	return l, err
}

// unplan forgets the plans of another strategy.
func (rt *Runtime) unplan() {
	for _, l := range rt.listings {
		l.plan, l.tooSmall = nil, nil
	}
}

// describe is the same for lists that have the same plan and run alike on a device.
func describe(stages []Stage) string {
	var b strings.Builder
	for _, s := range stages {
		fmt.Fprintf(&b, "%s %s %p %d", s.Component, s.Name, s.VM, s.Passes)
		for _, n := range s.Once {
			fmt.Fprintf(&b, " %p", n)
		}
		for _, n := range s.Keep {
			fmt.Fprintf(&b, " +%p", n)
		}
		for _, c := range s.Carry {
			fmt.Fprintf(&b, " %p=%p", c.In, c.Out)
		}
		b.WriteByte(';')
	}
	return b.String()
}

// link has the programs of stages leave values for each other: Note [Values that stay on a device].
func link(stages []Stage) []*program.Program {
	last := map[*G.Node]int{} // stage that is given a node
	for i, s := range stages {
		for _, n := range s.VM.given {
			last[n] = i
		}
	}
	programs, kept := make([]*program.Program, len(stages)), make([][]*G.Node, len(stages))
	until := -1 // the last stage that something is kept for
	for i, s := range stages {
		for _, n := range s.Keep {
			if last[n] > i {
				kept[i], until = append(kept[i], n), max(until, last[n])
			}
		}
		programs[i] = s.VM.prog
		if i > until && len(s.Once) == 0 && len(s.Carry) == 0 {
			continue
		}
		programs[i] = s.VM.prog.Clone()
		programs[i].Once(s.Once)
		for _, c := range s.Carry {
			programs[i].Carry(c.In, slices.Index(s.VM.outputs, c.Out))
		}
	}
	program.Share(programs, kept)
	return programs
}

// inventory turns compiled graphs into what strategies see, and lists the weights by index.
func (h *host) inventory(l *listing) (*offload.Inventory, []stored) {
	inv := &offload.Inventory{}
	index := map[stored]int{}
	var list []stored
	for i, st := range l.stages {
		prog := l.programs[i]
		out := offload.Phase{Component: st.Component, Name: st.Name, Passes: st.Passes, Activations: prog.DeviceBytes()}
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
					inv.Weights = append(inv.Weights, offload.Weight{Name: v.Name, Bytes: h.weights.WeightBytes(prog, v)})
				}
				call.Weights = append(call.Weights, w)
			}
			out.Calls = append(out.Calls, call)
		}
		inv.Phases = append(inv.Phases, out)
	}
	return inv, list
}

// Plan makes the strategy's plan for stages. Nothing is loaded and nothing runs. The inventory is the runtime's own,
// and must not be changed.
func (rt *Runtime) Plan(ctx context.Context, stages []Stage) (plan *offload.Plan, inv *offload.Inventory, err error) {
	defer stack.Add(&err)
	err = rt.host.do(ctx, func(context.Context) error {
		if stages, err = rt.check(stages); err != nil {
			return err
		}
		l, err := rt.planned(stages)
		if err != nil {
			return err
		}
		plan, inv = l.plan, l.inv
		return nil
	})
	return plan, inv, err
}

// Inventory is what stages will run, as strategies see it. Nothing is loaded. It is the runtime's own, and must not be
// changed.
func (rt *Runtime) Inventory(ctx context.Context, stages []Stage) (inv *offload.Inventory, err error) {
	defer stack.Add(&err)
	err = rt.host.do(ctx, func(context.Context) error {
		if stages, err = rt.check(stages); err == nil {
			inv = rt.listing(stages).inv
		}
		return err
	})
	return inv, err
}

// strategy is the one that was chosen; without one everything is resident.
func (rt *Runtime) strategy() (offload.Strategy, error) {
	switch list := rt.opt.strategies; {
	case slices.Contains(list, nil):
		return nil, errors.New("offload: the strategy is nil")
	case len(list) > 1:
		return nil, fmt.Errorf("offload: two strategies, %s and %s; a runtime takes one", list[0].Name(), list[1].Name())
	case len(list) == 1:
		return list[0], nil
	}
	return offload.None(), nil
}

// SetOffload changes the strategy for the runs to come; nil goes back to running without a plan. Nothing of the earlier
// strategy stays. While a run is between Begin and End, or a picture is made, it changes nothing and returns ErrRunning.
func (rt *Runtime) SetOffload(s offload.Strategy) (err error) {
	defer stack.Add(&err)
	if rt.host.running.Load() {
		return ErrRunning
	}
	return rt.host.do(context.Background(), func(context.Context) error {
		err = rt.endSession()
		rt.unplan()
		rt.opt.strategies = nil
		if s != nil {
			rt.opt.strategies = []offload.Strategy{s}
		}
		return err
	})
}
