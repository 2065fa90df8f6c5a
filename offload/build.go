package offload

import (
	"fmt"
	"maps"
	"sort"
)

// Spec is what a strategy decides; Build makes the plan. A strategy of one's own fills one in.
type Spec struct {
	Stays  map[int]Residence // of weights; those not named are streamed
	Groups [][]int           // neighbouring weights to stream together, in the order of first use; others go one call at a time
	Window int               // bytes through which weights are streamed; 0 is the least that works
	Clip   bool              // only the loop's phase gets all of Window: others as much of it as does not raise the peak
	Ahead  bool              // copy as soon as there is room, not only when the call before is done
	Seam   int               // where in a pass the window's memory is begun anew, from 1 to seams; 0 estimates the best
	MinRun int               // streamed neighbours are joined until they have this many bytes

	peaks map[peakOf]int // found so far by a search, whose Specs differ in the loop's weights alone
}

// seams is how many places for Spec.Seam there are.
const seams = 24

// Build places everything a Spec asks for:
//
//	[kept for ever][held by the component][activations of its phases ->   ...   <- streamed]
//
// Streamed loads lie as near to the top of the arena as those around them allow, so that large weights of calls
// with small activations use the room that calls with large activations need later.
//
// A Spec that is not of the inventory is a *SettingError.
func Build(inv *Inventory, name string, s Spec) (*Plan, error) {
	if err := s.check(inv); err != nil {
		return nil, err
	}
	return build(inv, name, s), nil
}

// check refuses what no inventory has, or this one does not.
func (s *Spec) check(inv *Inventory) error {
	for name, n := range map[string]int{"Window": s.Window, "Seam": s.Seam, "MinRun": s.MinRun} {
		if n < 0 {
			return &SettingError{"Spec." + name, fmt.Sprintf("is %d", n)}
		}
	}
	if s.Seam > seams {
		return &SettingError{"Spec.Seam", fmt.Sprintf("is %d, want 1 to %d, or 0", s.Seam, seams)}
	}
	for w, r := range s.Stays {
		if w < 0 || w >= len(inv.Weights) {
			return &SettingError{"Spec.Stays", fmt.Sprintf("names weight %d; the inventory has %d", w, len(inv.Weights))}
		}
		if r > Kept {
			return &SettingError{"Spec.Stays", fmt.Sprintf("has residence %d for weight %d", r, w)}
		}
	}
	for _, g := range s.Groups {
		for _, w := range g {
			if w < 0 || w >= len(inv.Weights) {
				return &SettingError{"Spec.Groups", fmt.Sprintf("names weight %d; the inventory has %d", w, len(inv.Weights))}
			}
		}
	}
	return nil
}

func build(inv *Inventory, name string, s Spec) *Plan {
	b := builder{inv: inv, spec: s, plan: &Plan{Strategy: name}, behind: map[int]bool{}}
	b.holdSmall()
	b.keep()
	b.plan.Phases = make([]PhaseRegion, len(inv.Phases))
	loop := inv.loop()
	var others [][2]int
	for _, g := range inv.groups() { // the loop's comes first, for the others to see what it takes
		if s.Clip && !(g[0] <= loop && loop < g[1]) {
			others = append(others, g)
			continue
		}
		b.group(g[0], g[1])
	}
	if s.Clip {
		b.clip = b.plan.Peak
	}
	for _, g := range others {
		b.group(g[0], g[1])
	}
	for i := range b.plan.Loads {
		// Until now offsets of streamed loads count down from the top.
		if l := &b.plan.Loads[i]; l.Stays == Streamed {
			l.Offset = b.plan.Peak - l.Offset
		}
	}
	sortLoads(b.plan.Loads)
	addWaits(inv, b.plan, b.behind)
	return b.plan
}

type builder struct {
	inv    *Inventory
	spec   Spec
	plan   *Plan
	kept   int          // bytes kept for ever, from offset 0
	behind map[int]bool // phases whose copies wait for the call before
	clip   int          // the loop's peak: other phases take a smaller window rather than more; 0: whatever they take
}

// holdSmall holds biases and the like where they would be streamed in every pass: copying one costs more latency
// than bytes, and together they are a thousandth of a model. It also holds weights that several calls read.
func (b *builder) holdSmall() {
	small := min(32<<10, b.inv.WeightBytes("")/10000)
	stays := maps.Clone(b.spec.Stays)
	if stays == nil {
		stays = map[int]Residence{}
	}
	for i := range b.inv.Phases {
		for w, u := range b.inv.uses(i) {
			smallInLoop := b.inv.Phases[i].Passes > 1 && b.inv.Weights[w].Bytes <= small
			if stays[w] == Streamed && (smallInLoop || u.first != u.last) {
				stays[w] = Held
			}
		}
	}
	b.spec.Stays = stays
}

// keep places what stays for ever.
func (b *builder) keep() {
	placed := map[int]bool{}
	for i := range b.inv.Phases {
		uses := b.inv.uses(i)
		for _, run := range b.runs(i, Kept, placed, b.spec.MinRun) {
			l := b.load(i, run, uses, Kept)
			l.Until = len(b.inv.Phases) - 1
			l.Last = len(b.inv.Phases[l.Until].Calls) - 1
			l.Offset, b.kept = b.kept, b.kept+l.Bytes
			b.plan.Loads = append(b.plan.Loads, l)
		}
	}
}

// group places one component's phases [from,to).
func (b *builder) group(from, to int) {
	at, placed := b.kept, map[int]bool{}
	for i := from; i < to; i++ {
		uses := b.inv.uses(i)
		for _, run := range b.runs(i, Held, placed, b.spec.MinRun) {
			l := b.load(i, run, uses, Held)
			l.Until, l.Last = b.lastUse(run, i, to)
			l.Offset, at = at, at+l.Bytes
			b.plan.Loads = append(b.plan.Loads, l)
		}
	}
	for i := from; i < to; i++ {
		ph := &b.inv.Phases[i]
		b.plan.Phases[i] = PhaseRegion{Title: ph.Title(), Offset: at, Bytes: ph.Activations}
		b.plan.Peak = max(b.plan.Peak, align(at+ph.Activations))
		window, ahead := b.window(i, at)
		if !ahead {
			b.behind[i] = true
		}
		b.stream(i, at, window, ahead)
	}
}

// window is that of a phase whose activations begin at base, and whether its copies run ahead: the largest, by halves,
// with which it takes no more than the loop, or the least there is.
func (b *builder) window(phase, base int) (window int, ahead bool) {
	window, ahead = b.spec.Window, b.spec.Ahead
	if b.clip == 0 || b.inv.Phases[phase].Passes > 1 {
		return window, ahead
	}
	fits := func() bool { return b.peak(phase, base, window, ahead) <= b.clip }
	for ; window > 1<<20; window /= 2 {
		if fits() {
			return window, ahead
		}
	}
	if window = 0; !fits() {
		ahead = false
	}
	return window, ahead
}

// peak is what a phase would take, looked up where a search has built one like it: what it holds of the loop's weights
// changes nothing in other components.
func (b *builder) peak(phase, base, window int, ahead bool) int {
	key := peakOf{phase, base, window, b.spec.MinRun, ahead}
	shared := b.spec.peaks != nil && b.inv.Phases[phase].Component != b.inv.Phases[b.inv.loop()].Component
	if n, ok := b.spec.peaks[key]; ok && shared {
		return n
	}
	tried := *b
	tried.plan = &Plan{}
	tried.stream(phase, base, window, ahead)
	if shared {
		b.spec.peaks[key] = tried.plan.Peak
	}
	return tried.plan.Peak
}

// peakOf is a phase as it is streamed.
type peakOf struct {
	phase, base, window, minRun int
	ahead                       bool
}

// lastUse is the last phase before to that reads one of the weights, and its last call that does.
func (b *builder) lastUse(weights []int, from, to int) (phase, call int) {
	for i := to - 1; i >= from; i-- {
		uses := b.inv.uses(i)
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

// stream places the streamed loads of a phase whose activations begin at base, in a window of that many bytes.
func (b *builder) stream(phase, base, window int, ahead bool) {
	ph := &b.inv.Phases[phase]
	uses := b.inv.uses(phase)
	var loads []Load
	minRun := b.spec.MinRun
	if !ahead {
		minRun = 0 // what is copied in between is copied for one call
	}
	for _, run := range b.runs(phase, Streamed, map[int]bool{}, minRun) {
		loads = append(loads, b.load(phase, run, uses, Streamed))
	}
	if len(loads) == 0 {
		return
	}
	largest := largestLoad(loads)
	if ahead && window >= 4*largest {
		first := emptiest(ph, loads)
		if b.spec.Seam > 0 {
			first = (b.spec.Seam - 1) * len(loads) / seams
		}
		ring(loads, window, first)
	} else if ahead && window <= largest {
		alternate(loads, ph.Passes > 1)
	} else {
		// The largest reach with which the loads fit the window.
		for reach := window; ; reach -= max(Align, window/16) {
			if deepest := stack(loads, max(0, reach), ahead, ph.Passes > 1); deepest <= window || reach <= 0 {
				break
			}
		}
	}
	gap := loads[0].Offset
	for i := range loads {
		gap = min(gap, loads[i].Offset-loads[i].Bytes)
	}
	for i := range loads {
		l := &loads[i]
		l.Offset -= gap // something touches the top
		first := l.First
		if ahead && i > 0 {
			first = loads[i-1].First // it is copied while the one before is used
		}
		top := 0
		for c := first; c <= l.Last; c++ {
			top = max(top, ph.Calls[c].Top)
		}
		b.plan.Peak = max(b.plan.Peak, align(base+top)+l.Offset)
	}
	b.plan.Loads = append(b.plan.Loads, loads...)
}

func largestLoad(loads []Load) (n int) {
	for i := range loads {
		n = max(n, loads[i].Bytes)
	}
	return n
}

// alternate places loads so that each can be copied while the one before is used: every other one at the top, those
// between them just below their neighbours.
func alternate(loads []Load, cyclic bool) {
	n := len(loads)
	for i := range loads {
		l := &loads[i]
		above := 0
		if i%2 == 1 {
			above = loads[i-1].Bytes
			if i+1 < n {
				above = max(above, loads[i+1].Bytes)
			} else if cyclic {
				above = max(above, loads[0].Bytes)
			}
		} else if i == n-1 && i > 0 && cyclic {
			above = max(loads[i-1].Offset, loads[0].Bytes) // two at the top would meet across the end of a pass
		}
		l.Offset = above + l.Bytes
	}
}

// ring lays loads one after the other from load first on, and begins again when size bytes are full. Where first
// follows the load before it, copies wait for the last ones made, so that place must be one where that costs least.
func ring(loads []Load, size, first int) {
	at := 0
	for k := range loads {
		l := &loads[(first+k)%len(loads)]
		if at+l.Bytes > size {
			at = 0
		}
		l.Offset = size - at
		at += l.Bytes
	}
}

// emptiest is the load before which a ring has run empty: where the bytes needed so far are furthest ahead of the
// work done so far.
func emptiest(ph *Phase, loads []Load) (first int) {
	var bytes, flops, most float64
	var allBytes, allFLOPs float64
	for i := range loads {
		allBytes += float64(loads[i].Bytes)
	}
	for _, c := range ph.Calls {
		allFLOPs += float64(c.FLOPs)
	}
	call := 0
	for i := range loads {
		for ; call < loads[i].First; call++ {
			flops += float64(ph.Calls[call].FLOPs)
		}
		bytes += float64(loads[i].Bytes)
		if ahead := bytes/allBytes - flops/max(1, allFLOPs); ahead > most {
			most, first = ahead, (i+1)%len(loads)
		}
	}
	return first
}

// stack gives each load the least depth at which it overlaps none within reach of it, which may be there at the same
// time: those before and after it, also across the end of a pass, with which it makes up at most reach bytes, and
// its neighbours if copies run ahead. A load's Offset becomes the depth of its lower end. The result is the deepest.
func stack(loads []Load, reach int, ahead, cyclic bool) (deepest int) {
	n := len(loads)
	for i := range loads {
		loads[i].Offset = 0
	}
	var near []span
	for i := range loads {
		near = near[:0]
		for _, dir := range []int{-1, 1} {
			sum := loads[i].Bytes
			for d := 1; d < n; d++ {
				j := i + dir*d
				if j < 0 || j >= n {
					if !cyclic {
						break
					}
					j = (j + n) % n
				}
				if sum += loads[j].Bytes; sum > reach && !(d == 1 && ahead) {
					break
				}
				if loads[j].Offset > 0 {
					near = append(near, span{loads[j].Offset - loads[j].Bytes, loads[j].Offset})
				}
			}
		}
		sort.Slice(near, func(a, b int) bool { return near[a].from < near[b].from })
		at := 0
		for _, s := range near {
			if at+loads[i].Bytes <= s.from {
				break
			}
			at = max(at, s.to)
		}
		loads[i].Offset = at + loads[i].Bytes
		deepest = max(deepest, loads[i].Offset)
	}
	return deepest
}

// runs splits the weights of a phase that stay as long as given, in the order of first use, into loads: those a
// group names together, else those of one call, joined up to minRun bytes.
func (b *builder) runs(phase int, stays Residence, placed map[int]bool, minRun int) (runs [][]int) {
	group := map[int]int{}
	for g, ws := range b.spec.Groups {
		for _, w := range ws {
			group[w] = g + 1
		}
	}
	uses := b.inv.uses(phase)
	var run []int
	bytes, call, of := 0, 0, 0
	flush := func() {
		if len(run) > 0 {
			runs = append(runs, run)
		}
		run, bytes = nil, 0
	}
	for _, w := range b.inv.order(phase) {
		if b.spec.Stays[w] != stays || placed[w] {
			continue
		}
		placed[w] = true
		same := len(run) > 0 && (uses[w].first == call || of > 0 && group[w] == of || of == 0 && group[w] == 0 && bytes < minRun)
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
