package offload

import (
	"fmt"
	"sort"
)

// PlanError is the first thing found wrong with a plan.
type PlanError struct {
	Load    int // index of the load at fault, -1 for the plan as a whole
	Problem string
}

func (e *PlanError) Error() string {
	if e.Load < 0 {
		return "offload: plan: " + e.Problem
	}
	return fmt.Sprintf("offload: plan: load %d: %s", e.Load, e.Problem)
}

// Verify proves that a plan is safe for an inventory:
//
//   - every weight that a call reads lies in a load that covers the call, at the place the load says;
//   - no copy begins before the last reader of what lay in its place is done, and no memory serves two at once;
//   - copies, made in order, never wait for a call that waits for them;
//   - the peak is the end of the last thing placed.
//
// Passes repeat, so those in the middle of a long phase need no proof of their own.
func Verify(p *Plan, inv *Inventory) error {
	v := verifier{plan: p, inv: inv, time: newTimeline(inv)}
	for _, check := range []func() error{v.shape, v.reads, v.order, v.memory} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

type verifier struct {
	plan *Plan
	inv  *Inventory
	time timeline
}

func bad(load int, format string, args ...any) error {
	return &PlanError{load, fmt.Sprintf(format, args...)}
}

// shape checks every number against what it counts.
func (v *verifier) shape() error {
	p, inv := v.plan, v.inv
	if len(p.Phases) != len(inv.Phases) {
		return bad(-1, "it has %d phases, the pipeline %d", len(p.Phases), len(inv.Phases))
	}
	end := 0
	for i := range inv.Phases {
		for _, c := range inv.Phases[i].Calls {
			if c.Top < 0 || c.Top > inv.Phases[i].Activations {
				return bad(-1, "%s: activations end at %d of %d", c.Layer, c.Top, inv.Phases[i].Activations)
			}
		}
	}
	for i, r := range p.Phases {
		if r.Title != inv.Phases[i].Title() {
			return bad(-1, "phase %d is %q, the pipeline's %q", i, r.Title, inv.Phases[i].Title())
		}
		if r.Offset < 0 || r.Offset%Align != 0 || r.Bytes < inv.Phases[i].Activations {
			return bad(-1, "%s has %d bytes at %d for %d bytes of activations", r.Title, r.Bytes, r.Offset, inv.Phases[i].Activations)
		}
		if i > 0 && inv.Phases[i].Component == inv.Phases[i-1].Component && r.Offset != p.Phases[i-1].Offset {
			return bad(-1, "%s begins at %d, %s at %d: phases of a component begin together, with what they share", r.Title, r.Offset, p.Phases[i-1].Title, p.Phases[i-1].Offset)
		}
		end = max(end, align(r.Offset+r.Bytes))
	}
	for i := range p.Loads {
		l := &p.Loads[i]
		if l.Phase < 0 || l.Until < l.Phase || l.Until >= len(inv.Phases) || l.Stays > Kept || l.Stays == Streamed && l.Until != l.Phase {
			return bad(i, "%s from phase %d to %d of %d", l.Stays, l.Phase, l.Until, len(inv.Phases))
		}
		if l.First < 0 || l.First >= len(inv.Phases[l.Phase].Calls) || l.Last < 0 || l.Last >= len(inv.Phases[l.Until].Calls) || l.Stays == Streamed && l.Last < l.First {
			return bad(i, "read by calls %d to %d, which do not exist", l.First, l.Last)
		}
		if l.Offset < 0 || l.Offset%Align != 0 || l.Bytes < 0 || l.Bytes > p.Peak || l.Offset > p.Peak {
			return bad(i, "%d bytes at %d", l.Bytes, l.Offset)
		}
		n := 0
		for _, w := range l.Weights {
			if w < 0 || w >= len(inv.Weights) {
				return bad(i, "weight %d of %d", w, len(inv.Weights))
			}
			n += align(inv.Weights[w].Bytes)
		}
		if n > l.Bytes {
			return bad(i, "its weights take %d bytes, it has %d", n, l.Bytes)
		}
		for _, pt := range l.Waits {
			if pt.Phase < 0 || pt.Phase > l.Phase || pt.Call < 0 || pt.Call >= len(inv.Phases[pt.Phase].Calls) {
				return bad(i, "waits for call %d of phase %d", pt.Call, pt.Phase)
			}
		}
		end = max(end, l.Offset+l.Bytes)
	}
	if end != p.Peak {
		return bad(-1, "its peak is %d bytes, it says %d", end, p.Peak)
	}
	return nil
}

// reads checks that each call finds its weights.
func (v *verifier) reads() error {
	for ph := range v.inv.Phases {
		holds := make(map[int][]int) // weight: loads
		for i := range v.plan.Loads {
			l := &v.plan.Loads[i]
			if l.Phase <= ph && (ph <= l.Until || l.Stays == Kept) {
				for _, w := range l.Weights {
					holds[w] = append(holds[w], i)
				}
			}
		}
		for c, call := range v.inv.Phases[ph].Calls {
			for _, w := range call.Weights {
				ls := holds[w]
				if len(ls) != 1 {
					return bad(-1, "%s is in %d loads when %s reads it", v.inv.Weights[w].Name, len(ls), call.Layer)
				}
				l := &v.plan.Loads[ls[0]]
				if l.Phase == ph && c < l.First || l.Until == ph && l.Stays != Kept && c > l.Last {
					return bad(ls[0], "%s is read by call %d, outside the load's", v.inv.Weights[w].Name, c)
				}
			}
		}
	}
	return nil
}

// provenPasses is how many passes of a phase are looked at: the first, which follows another phase, two that
// follow their like, and the last.
const provenPasses = 3

// order checks that copies come in the order they are needed and wait only for what comes before.
func (v *verifier) order() (err error) {
	last := -1
	for i := 1; i < len(v.plan.Loads); i++ {
		if v.plan.Loads[i].Phase < v.plan.Loads[i-1].Phase {
			return bad(i, "its phase comes before that of the load before")
		}
	}
	v.time.copies(v.plan, provenPasses, func(c copyOf) {
		if err == nil && c.need < last {
			err = bad(c.load, "it is needed before the load that is copied before it")
		}
		if err == nil && c.start >= c.need {
			err = bad(c.load, "it waits for a call that does not run before it is needed")
		}
		last = max(last, c.need)
	})
	return err
}

// memory checks that no two users of the same bytes meet. A load's bytes are its own from the call its copy
// waits for to its last reader.
func (v *verifier) memory() (err error) {
	type user struct {
		copyOf
		at span
	}
	var all []user
	v.time.copies(v.plan, provenPasses, func(c copyOf) {
		l := &v.plan.Loads[c.load]
		if l.Stays == Kept {
			c.start = -1 // it is there from the image before
		}
		all = append(all, user{c, l.span()})
		if err == nil {
			err = v.activations(c, l)
		}
	})
	if err != nil {
		return err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].at.from < all[j].at.from })
	for i, a := range all {
		for _, b := range all[i+1:] {
			if b.at.from >= a.at.to {
				break
			}
			if a.at.overlaps(b.at) && a.start < b.done && b.start < a.done {
				name := func(i int) string { return v.inv.Weights[v.plan.Loads[i].Weights[0]].Name }
				return bad(max(a.load, b.load), "%s is written where %s is still needed", name(max(a.load, b.load)), name(min(a.load, b.load)))
			}
		}
	}
	return nil
}

// activations checks that no call's activations reach into a load that is being copied or needed.
func (v *verifier) activations(c copyOf, l *Load) error {
	for ph := range v.inv.Phases {
		calls, r := v.inv.Phases[ph].Calls, v.plan.Phases[ph]
		end := v.time.base[ph] + v.inv.Phases[ph].Passes*len(calls)
		if l.Offset+l.Bytes <= r.Offset || l.Offset >= r.Offset+r.Bytes || l.Bytes == 0 {
			continue
		}
		// Positions in (start, done]: at most a pass of them differ.
		from, to := max(c.start+1, v.time.base[ph]), min(c.done, end-1)
		for pos := from; pos <= min(to, from+len(calls)-1); pos++ {
			if call := calls[(pos-v.time.base[ph])%len(calls)]; r.Offset+call.Top > l.Offset {
				return bad(c.load, "%s is written where activations of %s lie", v.inv.Weights[l.Weights[0]].Name, call.Layer)
			}
		}
	}
	return nil
}
