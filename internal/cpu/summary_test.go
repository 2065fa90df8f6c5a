package cpu

import (
	"math"
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
