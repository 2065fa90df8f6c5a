package offload

import (
	"fmt"
	"sort"
)

// Auto makes the fastest plan it finds within a budget. It tries rules for which of the loop's weights stay on
// the device, each with several windows, on the simulator. What it tries does not depend on the budget, only
// what fits does, so more memory is never slower.
func Auto(budget int, opts ...Option) Strategy {
	opts = append([]Option{Budget(budget)}, opts...)
	return newStrategy("auto", opts, func(s *strategy, inv *Inventory, fixed map[int]Residence) (*Plan, error) {
		if p := all(inv, s.name, Kept, nil); p.Peak <= s.budget && !s.limited {
			p.Why = "everything fits: each weight is copied once and stays"
			return p, nil
		}
		if least := build(inv, s.name, Spec{Stays: fixed}); least.Peak > s.budget {
			return nil, newBudgetError(least, inv, s.budget, s.profile)
		}
		best := searched(inv, s.name, fixed, s.profile).best(s.budget, s.most, s.limited)
		if best == nil {
			return nil, newBudgetError(build(inv, s.name, Spec{Stays: fixed}), inv, s.budget, s.profile)
		}
		return best, nil
	})
}

// rules order the loop's weights by who stays first.
var rules = []struct {
	name string
	less func(a, b *unit) bool // nil: spread over the step's time
}{
	{"spread over the step", nil},
	{"lowest FLOP per byte", func(a, b *unit) bool { return a.cost*float64(b.bytes) < b.cost*float64(a.bytes) }},
	{"first", func(a, b *unit) bool { return a.call < b.call }},
	{"largest", func(a, b *unit) bool { return a.bytes > b.bytes }},
	{"smallest", func(a, b *unit) bool { return a.bytes < b.bytes }},
}

// unit is what the loop streams or holds as one: the weights of a call.
type unit struct {
	weights []int
	bytes   int
	call    int
	cost    float64 // seconds of its call
	begin   float64 // when the call begins in a step with everything resident
}

const (
	shares = 16      // steps in which the resident part of the loop's weights is tried
	joined = 8 << 20 // copies smaller than this are joined
	passes = 4       // of the loop, on the simulator
)

var windows = []int{0, 64 << 20, 256 << 20, 512 << 20}

type search struct {
	inv, short *Inventory
	name       string
	fixed      map[int]Residence
	prof       Profile
	units      []unit
	total      int     // bytes of units
	compute    float64 // of a step
	tried      []*candidate
	peaks      map[peakOf]int // of Specs
}

func newSearch(inv *Inventory, name string, fixed map[int]Residence, prof Profile) *search {
	a := &search{inv: inv, short: inv.short(passes), name: name, fixed: fixed, prof: prof, peaks: map[peakOf]int{}}
	loop := inv.loop()
	ph, uses := &inv.Phases[loop], inv.uses(loop)
	at := map[int]int{}
	for _, w := range inv.order(loop) {
		if fixed[w] != Streamed {
			continue
		}
		c := uses[w].first
		if _, ok := at[c]; !ok {
			at[c] = len(a.units)
			a.units = append(a.units, unit{call: c})
		}
		u := &a.units[at[c]]
		u.weights = append(u.weights, w)
		u.bytes += align(inv.Weights[w].Bytes)
		a.total += align(inv.Weights[w].Bytes)
	}
	for c := range ph.Calls {
		cost := prof.call(&ph.Calls[c], inv.bytes(ph.Calls[c].Weights))
		if i, ok := at[c]; ok {
			a.units[i].cost, a.units[i].begin = cost, a.compute
		}
		a.compute += cost
	}
	return a
}

// candidate is a plan tried.
type candidate struct {
	rule, share  int
	seam         int
	window, held int
	step, total  float64
	peak         int
}

// searched tries every rule, share and window, once per inventory: others who plan the same
// inventory meanwhile wait.
func searched(inv *Inventory, name string, fixed map[int]Residence, prof Profile) *search {
	key := fmt.Sprint(prof, fixed)
	k := inv.derived()
	k.mu.Lock()
	defer k.mu.Unlock()
	if a, ok := k.searches[key]; ok {
		return a
	}
	a := newSearch(inv, name, fixed, prof)
	for _, w := range windows {
		for r := range rules {
			for share := range shares + 1 {
				if (share == 0 || share == shares) && r > 0 {
					continue // nothing or everything: the rule does not matter
				}
				a.try(candidate{rule: r, share: share, window: w})
			}
		}
	}
	a.refine()
	k.searches[key] = a
	return a
}

func (a *search) try(c candidate) {
	spec, held := a.spec(c)
	p := build(a.short, a.name, spec)
	f := Simulate(p, a.short, a.prof)
	c.held, c.step, c.total, c.peak = held, f.Step, f.Total, p.Peak
	a.tried = append(a.tried, &c)
}

// refine tries other seams for the plans that are the fastest of their size and still wait for copies.
func (a *search) refine() {
	bySize := append([]*candidate(nil), a.tried...)
	sort.SliceStable(bySize, func(i, j int) bool { return bySize[i].peak < bySize[j].peak })
	var front []*candidate
	for _, c := range bySize {
		if len(front) == 0 || c.total < 0.98*front[len(front)-1].total {
			front = append(front, c)
		}
	}
	for _, c := range front {
		for seam := 1; seam <= seams && c.window > 0 && c.step > 1.02*a.compute; seam++ {
			again := *c
			again.seam = seam
			a.try(again)
		}
	}
}

// best is the fastest plan tried that fits, nil if none does.
func (a *search) best(budget, most int, limited bool) *Plan {
	var best *candidate
	for _, c := range a.tried {
		if c.peak <= budget && (!limited || c.held <= most) && (best == nil || c.better(best)) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	spec, _ := a.spec(*best)
	spec.peaks = nil // others may plan the same inventory at the same time
	p := build(a.inv, a.name, spec)
	p.Why = fmt.Sprintf("the best of %d plans on %s: a window of %s, %s of the loop's %s resident, %s; predicted %.4g s per step, %.4g s with everything resident",
		len(a.tried), a.prof.Name, mib(best.window), mib(best.held), mib(a.total), rules[best.rule].name, best.step, a.compute)
	return p
}

func (c *candidate) better(d *candidate) bool {
	if c.total != d.total {
		return c.total < d.total
	}
	return c.peak < d.peak
}

// spec holds a share of the loop's weights, of held bytes, by a rule and streams the others through a window.
func (a *search) spec(c candidate) (s Spec, held int) {
	s = Spec{peaks: a.peaks, Stays: map[int]Residence{}, Window: c.window, Clip: true, Ahead: c.window > 0, MinRun: min(joined, c.window/8), Seam: c.seam}
	for w, r := range a.fixed {
		s.Stays[w] = r
	}
	room := a.total / shares * c.share
	if c.share == shares {
		room = a.total
	}
	for _, i := range a.resident(c.rule, room) {
		for _, w := range a.units[i].weights {
			s.Stays[w] = Held
		}
		held += a.units[i].bytes
	}
	return s, held
}

// resident chooses units of at most room bytes.
func (a *search) resident(rule, room int) (chosen []int) {
	if rules[rule].less == nil {
		return a.spread(room)
	}
	order := make([]int, len(a.units))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return rules[rule].less(&a.units[order[i]], &a.units[order[j]]) })
	for _, i := range order {
		if a.units[i].bytes <= room {
			room -= a.units[i].bytes
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// spread lets the streamed bytes grow evenly with the step's time, so that the link is never far behind or
// ahead: a unit is streamed if that brings the sum nearer to its even share.
func (a *search) spread(room int) (chosen []int) {
	stream := float64(a.total - room)
	sum := 0.0
	for i, u := range a.units {
		due := stream * (u.begin + u.cost) / a.compute
		if b := float64(u.bytes); sum+b/2 <= due {
			sum += b
		} else if u.bytes <= room {
			room -= u.bytes
			chosen = append(chosen, i)
		} else {
			sum += b
		}
	}
	return chosen
}

// CurvePoint is a budget and what Auto makes of it.
type CurvePoint struct {
	Budget int     `json:"budget"`
	Step   float64 `json:"step"`
	Total  float64 `json:"total"`
}

// Curve, of a profile that is checked, is the predicted time at n budgets from the smallest that works to everything resident.
func Curve(inv *Inventory, prof Profile, n int) []CurvePoint {
	low, high := Smallest(inv), all(inv, "none", Kept, nil).Peak
	var curve []CurvePoint
	for i := range n {
		b := low + int(float64(high-low)*float64(i)/float64(max(1, n-1)))
		p, err := Auto(b, On(prof)).Plan(inv)
		if err != nil {
			continue
		}
		f := Simulate(p, inv, prof)
		curve = append(curve, CurvePoint{b, f.Step, f.Total})
	}
	return curve
}
