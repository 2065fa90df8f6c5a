package cpu

import "time"

// PeakFMA measures the float32 rate of fused multiply-adds that touch only registers, over all threads, in
// GFLOP/s: the bound of every kernel here. It is the best of five runs of about 10 ms.
func (p *Pool) PeakFMA() float64 {
	const items, iters = 16, 1 << 18
	best := 0.0
	for range 5 {
		flops := make([]float64, items*p.threads)
		begin := time.Now()
		p.For(len(flops), func(_, i int) { flops[i] = p.k.peak(iters) })
		took := time.Since(begin).Seconds()
		sum := 0.0
		for _, f := range flops {
			sum += f
		}
		best = max(best, sum/took/1e9)
	}
	return best
}
