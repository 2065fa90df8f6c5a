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
		e := extentOf(x[i:j])
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
func extentOf(x []float32) extent {
	// Four at a time, so that one need not wait for the other.
	const top = math.MaxFloat32
	lo0, lo1, lo2, lo3 := float32(top), float32(top), float32(top), float32(top)
	hi0, hi1, hi2, hi3 := float32(-top), float32(-top), float32(-top), float32(-top)
	var sum0, sum1 float64
	n := len(x) / 4 * 4
	for i := 0; i < n; i += 4 {
		y := x[i : i+4 : i+4]
		v0, v1, v2, v3 := y[0], y[1], y[2], y[3]
		sum0 += float64(v0 + v1)
		sum1 += float64(v2 + v3)
		if v0 < lo0 {
			lo0 = v0
		}
		if v0 > hi0 {
			hi0 = v0
		}
		if v1 < lo1 {
			lo1 = v1
		}
		if v1 > hi1 {
			hi1 = v1
		}
		if v2 < lo2 {
			lo2 = v2
		}
		if v2 > hi2 {
			hi2 = v2
		}
		if v3 < lo3 {
			lo3 = v3
		}
		if v3 > hi3 {
			hi3 = v3
		}
	}
	e := extent{min(lo0, lo1, lo2, lo3), max(hi0, hi1, hi2, hi3), sum0 + sum1, 0}
	for _, v := range x[n:] {
		e.sum += float64(v)
		e.lo, e.hi = min(e.lo, v), max(e.hi, v)
	}
	if e.sum-e.sum == 0 {
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
