package offload

// Spec is what a strategy decides; Build makes the plan. A strategy of one's own fills one in.
type Spec struct {
	Stays  map[int]Residence // of weights; those not named are streamed
	Groups [][]int           // neighbouring weights to stream together, in the order of first use; others go one call at a time
	Window int               // bytes of the ring through which weights are streamed; 0 is the least that works
	Ahead  bool              // copy as soon as the ring has room, not only when the call before is done
	MinRun int               // streamed neighbours are joined until they have this many bytes
}

// Build places everything a Spec asks for:
//
//	[kept for ever][activations of a component's phases][held by the component]   ...   [ring]
//
// The ring is at the top of the arena, so that the first weights of the next component find room there while
// the last calls of this one run.
func Build(inv *Inventory, name string, s Spec) *Plan {
	b := builder{inv: inv, spec: s, plan: &Plan{Strategy: name}}
	b.keep()
	var rings []int
	for _, g := range inv.groups() {
		rings = append(rings, b.group(g[0], g[1]))
	}
	b.raise(rings)
	sortLoads(b.plan.Loads)
	b.plan.Peak = 0
	for _, r := range b.plan.Phases {
		b.plan.Peak = max(b.plan.Peak, r.Offset+r.Bytes)
	}
	for i := range b.plan.Loads {
		b.plan.Peak = max(b.plan.Peak, b.plan.Loads[i].span().to)
	}
	addWaits(inv, b.plan, s.Ahead)
	return b.plan
}

type builder struct {
	inv  *Inventory
	spec Spec
	plan *Plan
	kept int // bytes kept for ever, from offset 0
	ring []int
}

// keep places what stays for ever.
func (b *builder) keep() {
	placed := map[int]bool{}
	for i := range b.inv.Phases {
		uses := b.inv.Phases[i].uses()
		for _, run := range b.runs(i, Kept, placed) {
			l := b.load(i, run, uses, Kept)
			l.Until = len(b.inv.Phases) - 1
			l.Last = len(b.inv.Phases[l.Until].Calls) - 1
			l.Offset, b.kept = b.kept, b.kept+l.Bytes
			b.plan.Loads = append(b.plan.Loads, l)
		}
	}
}

// group places one component's phases [from,to) and returns the bytes of its ring, whose loads get offsets
// within it.
func (b *builder) group(from, to int) (ring int) {
	acts := 0
	for i := from; i < to; i++ {
		acts = max(acts, align(b.inv.Phases[i].Activations))
	}
	at, placed := b.kept+acts, map[int]bool{}
	for i := from; i < to; i++ {
		ph := &b.inv.Phases[i]
		b.plan.Phases = append(b.plan.Phases, PhaseRegion{Title: ph.Title(), Offset: b.kept, Bytes: ph.Activations})
		uses := ph.uses()
		for _, run := range b.runs(i, Held, placed) {
			l := b.load(i, run, uses, Held)
			l.Until, l.Last = b.lastUse(run, i, to)
			l.Offset, at = at, at+l.Bytes
			b.plan.Loads = append(b.plan.Loads, l)
		}
		ring = max(ring, b.stream(i, uses))
	}
	b.plan.Peak = max(b.plan.Peak, at+ring)
	return ring
}

// lastUse is the last phase before to that reads one of the weights, and its last call that does.
func (b *builder) lastUse(weights []int, from, to int) (phase, call int) {
	for i := to - 1; i >= from; i-- {
		uses := b.inv.Phases[i].uses()
		last := -1
		for _, w := range weights {
			if u, ok := uses[w]; ok {
				last = max(last, u.last)
			}
		}
		if last >= 0 {
			return i, last
		}
	}
	return from, 0
}

// stream gives the streamed loads of a phase their offsets in a ring, and returns its size.
func (b *builder) stream(phase int, uses map[int]use) int {
	runs := b.runs(phase, Streamed, map[int]bool{})
	size, total := b.spec.Window, 0
	var loads []Load
	for i, run := range runs {
		l := b.load(phase, run, uses, Streamed)
		loads = append(loads, l)
		total += l.Bytes
		// The least: a load and, when copying ahead, the next one.
		least := l.Bytes
		if b.spec.Ahead && i > 0 {
			least += loads[i-1].Bytes
		}
		size = max(size, least)
	}
	size = min(size, total)
	at := 0
	for i := range loads {
		if at+loads[i].Bytes > size {
			at = 0
		}
		loads[i].Offset = at
		at += loads[i].Bytes
	}
	b.plan.Loads = append(b.plan.Loads, loads...)
	return size
}

// raise moves the rings to the top of the arena.
func (b *builder) raise(rings []int) {
	groups := b.inv.groups()
	for i := range b.plan.Loads {
		l := &b.plan.Loads[i]
		if l.Stays != Streamed {
			continue
		}
		for g, ph := range groups {
			if ph[0] <= l.Phase && l.Phase < ph[1] {
				l.Offset += b.plan.Peak - rings[g]
			}
		}
	}
}

// runs splits the weights of a phase that stay as long as given, in the order of first use, into loads: those a
// group names together, else those of one call, joined up to MinRun bytes.
func (b *builder) runs(phase int, stays Residence, placed map[int]bool) (runs [][]int) {
	group := map[int]int{}
	for g, ws := range b.spec.Groups {
		for _, w := range ws {
			group[w] = g + 1
		}
	}
	ph := &b.inv.Phases[phase]
	uses := ph.uses()
	var run []int
	bytes, call, of := 0, 0, 0
	flush := func() {
		if len(run) > 0 {
			runs = append(runs, run)
		}
		run, bytes = nil, 0
	}
	for _, w := range ph.order() {
		if b.spec.Stays[w] != stays || placed[w] {
			continue
		}
		placed[w] = true
		same := len(run) > 0 && (uses[w].first == call || of > 0 && group[w] == of || of == 0 && group[w] == 0 && bytes < b.spec.MinRun)
		if !same {
			flush()
		}
		run, call, of = append(run, w), uses[w].first, group[w]
		bytes += align(b.inv.Weights[w].Bytes)
	}
	flush()
	return runs
}

func (b *builder) load(phase int, run []int, uses map[int]use, stays Residence) Load {
	l := Load{Phase: phase, Until: phase, Stays: stays, Weights: run, Bytes: b.inv.bytes(run), First: uses[run[0]].first}
	for _, w := range run {
		l.First = min(l.First, uses[w].first)
		l.Last = max(l.Last, uses[w].last)
	}
	return l
}
