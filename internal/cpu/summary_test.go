package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestSummarize(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	x := make([]float32, 3*chunk+5)
	for i := range x {
		x[i] = float32(i%7) - 2
	}
	x[chunk+3], x[len(x)-1] = -9, 11
	want := 0.0
	for _, v := range x {
		want += float64(v)
	}
	mean := float32(want / float64(len(x)))
	if got := p.Summarize(x); got != (Summary{-9, 11, mean, 0}) {
		t.Errorf("%+v, want a mean of %g", got, mean)
	}
	x[0], x[1], x[len(x)-2] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
	if got := p.Summarize(x); got.NonFinite != 3 || got.Min != -9 || got.Max != 11 || !(math.Abs(float64(got.Mean-mean)) < 1e-3) {
		t.Errorf("with three that are not finite: %+v", got)
	}
	if got := p.Summarize(x[:1]); got != (Summary{NonFinite: 1}) {
		t.Errorf("of one that is none: %+v", got)
	}
	if got := p.Summarize(nil); got != (Summary{}) {
		t.Errorf("of none: %+v", got)
	}
}

func BenchmarkSummarize(b *testing.B) {
	p := NewPool(1)
	defer p.Close()
	x := make([]float32, 1<<20)
	b.SetBytes(4 << 20)
	b.ReportAllocs()
	for b.Loop() {
		p.Summarize(x)
	}
}

// The twins agree for every length, but for the order of the sum.
func TestExtentTwins(t *testing.T) {
	p := NewPool(1)
	defer p.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 200; n++ {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		x[rng.IntN(n)], x[rng.IntN(n)] = 7, -8
		low, high, sum := p.k.extent(x)
		l, h, s := extentPortable(x)
		if low != l || high != h || math.Abs(sum-s) > 1e-9 {
			t.Fatalf("%d numbers: %g to %g, sum %g; portable %g to %g, %g", n, low, high, sum, l, h, s)
		}
	}
}
