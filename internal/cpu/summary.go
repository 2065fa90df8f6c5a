package cpu

import (
	"math"
	"sync"
)

// Summary is what a list of numbers is like. Min, Max and Mean are of those that are finite; without any they are 0.
type Summary struct {
	Min, Max, Mean float32
	NonFinite      int // infinite, or not a number
}

// Summarize looks at every number of x.
func (p *Pool) Summarize(x []float32) Summary {
	var mu sync.Mutex
	all := extent{lo: math.MaxFloat32, hi: -math.MaxFloat32}
	sums := grow(&p.sums, ceilDiv(len(x), chunk)) // added up in order, whoever is done first
	p.each(len(x), func(i, j int) {
		e := p.extentOf(x[i:j])
		sums[i/chunk] = e.sum
		mu.Lock()
		all.lo, all.hi, all.bad = min(all.lo, e.lo), max(all.hi, e.hi), all.bad+e.bad
		mu.Unlock()
	})
	for _, s := range sums {
		all.sum += s
	}
	n := len(x) - all.bad
	if n == 0 {
		return Summary{NonFinite: all.bad}
	}
	return Summary{all.lo, all.hi, float32(all.sum / float64(n)), all.bad}
}

// extent is a Summary that is being made.
type extent struct {
	lo, hi float32
	sum    float64
	bad    int
}

// extentOf looks at a chunk. Numbers that are not finite are rare: they are sought only where the sum is not finite.
func (p *Pool) extentOf(x []float32) (e extent) {
	if e.lo, e.hi, e.sum = p.k.extent(x); e.sum-e.sum == 0 {
		return e
	}
	e = extent{lo: math.MaxFloat32, hi: -math.MaxFloat32}
	for _, v := range x {
		if v-v != 0 {
			e.bad++
			continue
		}
		e.sum += float64(v)
		e.lo, e.hi = min(e.lo, v), max(e.hi, v)
	}
	return e
}
