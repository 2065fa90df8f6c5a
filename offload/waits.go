package offload

import "sort"

func sortLoads(loads []Load) {
	sort.SliceStable(loads, func(i, j int) bool {
		if loads[i].Phase != loads[j].Phase {
			return loads[i].Phase < loads[j].Phase
		}
		return loads[i].First < loads[j].First
	})
}

// span is memory and how long its contents are needed: from when its copy may begin to a point.
type span struct{ from, to int }

func (a span) overlaps(b span) bool { return a.from < b.to && b.from < a.to }

func (l *Load) span() span { return span{l.Offset, l.Offset + l.Bytes} }

func (r *PhaseRegion) span() span { return span{r.Offset, r.Offset + r.Bytes} }

// addWaits gives every load the waits it needs: for the last reader of whatever lay in its place before. In phases that
// are behind it also waits for the call before its first.
func addWaits(inv *Inventory, p *Plan, behind map[int]bool) {
	byPhase := make([][]*Load, len(inv.Phases))
	for i := range p.Loads {
		byPhase[p.Loads[i].Phase] = append(byPhase[p.Loads[i].Phase], &p.Loads[i])
	}
	for i := range p.Loads {
		l := &p.Loads[i]
		l.Waits = nil
		if l.Stays == Streamed {
			if c, ok := reader(inv, p, l, byPhase[l.Phase]); ok {
				l.Waits = append(l.Waits, Point{l.Phase, c})
			}
		}
		if pt, ok := earlier(inv, p, l, byPhase); ok {
			l.Waits = append(l.Waits, pt)
		}
		if behind[l.Phase] && l.Stays == Streamed {
			l.Waits = append(l.Waits, before(inv, l)...)
		}
	}
}

// reader is the call of l's own phase that last needs l's place before l does, as a weight or as activations: a
// call before l's first, or one of the pass before.
func reader(inv *Inventory, p *Plan, l *Load, loads []*Load) (call int, ok bool) {
	calls := inv.Phases[l.Phase].Calls
	best := len(calls) + 1 // calls from there to l.First, the least wins
	note := func(c int) {
		d := l.First - c
		if d <= 0 {
			d += len(calls)
		}
		if d < best {
			best, call = d, c
		}
	}
	for _, m := range loads {
		if m.Stays == Streamed && m.span().overlaps(l.span()) {
			note(m.Last)
		}
	}
	if c, ok := lastAbove(calls[:l.First], l.Offset-p.Phases[l.Phase].Offset); ok {
		note(c)
	} else if c, ok := lastAbove(calls, l.Offset-p.Phases[l.Phase].Offset); ok {
		note(c)
	}
	return call, best <= len(calls)
}

// lastAbove is the last of calls whose activations reach above at.
func lastAbove(calls []Call, at int) (int, bool) {
	for i := len(calls) - 1; i >= 0; i-- {
		if calls[i].Top > at {
			return i, true
		}
	}
	return 0, false
}

// earlier is the last call of an earlier phase that needs l's place.
func earlier(inv *Inventory, p *Plan, l *Load, byPhase [][]*Load) (Point, bool) {
	last := make([]int, l.Phase)
	note := func(phase, call int) {
		if phase < l.Phase {
			last[phase] = max(last[phase], call+1)
		}
	}
	for q := range l.Phase {
		if p.Phases[q].span().overlaps(l.span()) {
			if c, ok := lastAbove(inv.Phases[q].Calls, l.Offset-p.Phases[q].Offset); ok {
				note(q, c)
			}
		}
		for _, m := range byPhase[q] {
			if m.span().overlaps(l.span()) {
				note(m.Until, m.Last)
			}
		}
	}
	for q := l.Phase - 1; q >= 0; q-- {
		if last[q] > 0 {
			return Point{q, last[q] - 1}, true
		}
	}
	return Point{}, false
}

// before is the call that runs just before l is needed: in its own phase, and for the first pass in the phase
// before.
func before(inv *Inventory, l *Load) (pts []Point) {
	if l.First > 0 {
		return []Point{{l.Phase, l.First - 1}}
	}
	if inv.Phases[l.Phase].Passes > 1 {
		pts = append(pts, Point{l.Phase, len(inv.Phases[l.Phase].Calls) - 1})
	}
	if l.Phase > 0 {
		pts = append(pts, Point{l.Phase - 1, len(inv.Phases[l.Phase-1].Calls) - 1})
	}
	return pts
}
