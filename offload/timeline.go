package offload

// timeline numbers every call a pipeline runs: phase by phase, pass by pass.
type timeline struct {
	inv  *Inventory
	base []int // position of each phase's first call
	end  int
}

func newTimeline(inv *Inventory) timeline {
	t := timeline{inv: inv}
	for _, p := range inv.Phases {
		t.base = append(t.base, t.end)
		t.end += p.Passes * len(p.Calls)
	}
	return t
}

// at is the position of a call.
func (t *timeline) at(phase, pass, call int) int {
	return t.base[phase] + pass*len(t.inv.Phases[phase].Calls) + call
}

// Position numbers all calls of a run: phase by phase, pass by pass. That of the phase after the last is their
// number. The phase must be one of the inventory's, or that.
func (inv *Inventory) Position(phase, pass, call int) int {
	n := 0
	for i := range inv.Phases[:phase] {
		n += inv.Phases[i].Passes * len(inv.Phases[i].Calls)
	}
	if phase < len(inv.Phases) {
		n += pass*len(inv.Phases[phase].Calls) + call
	}
	return n
}

// Copy is one time that a load is copied. Calls are given by their position.
type Copy struct {
	Load  int // of the plan
	After int // the call it waits for, -1 for none
	First int // the call that reads it first
	Last  int // the call that reads it last; the number of all calls for what is kept
}

// Copies lists the copies of a run in their order, by a plan that Verify has proven.
func (p *Plan) Copies(inv *Inventory) (all []Copy) {
	t := newTimeline(inv)
	t.copies(p, 0, func(c copyOf) { all = append(all, Copy{c.load, c.start, c.need, c.done}) })
	return all
}

// copyOf is one time that a load is copied.
type copyOf struct {
	load  int
	start int // position of the call it waits for, -1 for none
	need  int // position of the call that reads it first
	done  int // position of the call that reads it last; the timeline's end for what is kept
}

// point is the position of a wait of load l in a pass, -1 if that call has not run by then.
func (t *timeline) point(l *Load, pass int, p Point) int {
	switch {
	case p.Phase < l.Phase:
		return t.at(p.Phase, t.inv.Phases[p.Phase].Passes-1, p.Call)
	case p.Call < l.First:
		return t.at(p.Phase, pass, p.Call)
	case pass > 0:
		return t.at(p.Phase, pass-1, p.Call)
	}
	return -1
}

// copies calls yield for every copy in the order they run. maxPasses > 0 leaves out the passes in the middle of
// longer phases: their copies repeat those of the pass before.
func (t *timeline) copies(p *Plan, maxPasses int, yield func(c copyOf)) {
	for first := 0; first < len(p.Loads); {
		phase := p.Loads[first].Phase
		last := first
		for last < len(p.Loads) && p.Loads[last].Phase == phase {
			last++
		}
		passes := t.inv.Phases[phase].Passes
		for pass := 0; pass < passes; pass++ {
			if maxPasses > 0 && pass == maxPasses && pass < passes-1 {
				pass = passes - 1
			}
			for i := first; i < last; i++ {
				l := &p.Loads[i]
				if pass > 0 && l.Stays != Streamed {
					continue
				}
				c := copyOf{load: i, start: -1, need: t.at(phase, pass, l.First), done: t.end}
				switch l.Stays {
				case Streamed:
					c.done = t.at(phase, pass, l.Last)
				case Held:
					c.done = t.at(l.Until, t.inv.Phases[l.Until].Passes-1, l.Last)
				}
				for _, w := range l.Waits {
					c.start = max(c.start, t.point(l, pass, w))
				}
				yield(c)
			}
		}
		first = last
	}
}
