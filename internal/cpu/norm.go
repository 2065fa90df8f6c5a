package cpu

import (
	"fmt"
	"math"
)

// statChunks is into how many chunks of rows GroupNorm's sums are split at most. It is fixed, and not the number
// of threads, so that the sums are too.
const statChunks = 64

// GroupNorm normalises each group of c/groups channels of each image, then applies SiLU if silu.
//
//	out, x      [b hw c]   out may be x
//	gamma, beta [c]
//
// Sums are float64, so the variance as mean of squares less square of mean keeps its digits.
func (p *Pool) GroupNorm(out, x []float32, b, hw, c, groups int, gamma, beta []float32, eps float32, silu bool) {
	check("group norm", "x", len(x), b*hw*c)
	check("group norm", "out", len(out), len(x))
	check("group norm", "gamma", len(gamma), c)
	check("group norm", "beta", len(beta), c)
	if groups <= 0 || c%groups != 0 {
		panic(fmt.Sprintf("cpu: group norm: %d groups of %d channels", groups, c))
	}
	if len(x) == 0 {
		return
	}
	rows := max(16, ceilDiv(hw, statChunks))
	chunks := ceilDiv(hw, rows)
	sums := grow(&p.stats, b*chunks*groups*2) // [b chunks groups](sum, squares)
	p.For(b*chunks, func(worker, i int) {
		from := i%chunks*rows + i/chunks*hw
		to := min(from+rows, (i/chunks+1)*hw)
		wide := grow(&p.scratch[worker].wide, 2*c)
		p.k.chMoments(wide[:c], wide[c:], x[from*c:to*c])
		foldGroups(sums[i*groups*2:][:groups*2], wide, c)
	})

	apply := p.k.norm
	if silu {
		apply = p.k.normSiLU
	}
	p.For(b*chunks, func(worker, i int) {
		image := i / chunks
		from, to := i%chunks*rows+image*hw, min((i%chunks+1)*rows, hw)+image*hw
		v := grow(&p.scratch[worker].row, 2*c)
		mean, scale := v[:c], v[c:]
		fill := sums[image*chunks*groups*2:][:chunks*groups*2]
		groupScales(mean, scale, fill, gamma, groups, float64(hw)*float64(c/groups), float64(eps))
		for r := from; r < to; r++ {
			apply(out[r*c:(r+1)*c], x[r*c:(r+1)*c], mean, scale, beta)
		}
	})
}

// foldGroups adds up the channels of each group: dst [groups](sum, squares), wide [2 c].
func foldGroups(dst, wide []float64, c int) {
	per := c / (len(dst) / 2)
	for g := 0; g < len(dst); g += 2 {
		var sum, squares float64
		for i := range per {
			sum += wide[g/2*per+i]
			squares += wide[c+g/2*per+i]
		}
		dst[g], dst[g+1] = sum, squares
	}
}

// groupScales makes the per-channel mean and gamma/std from one image's sums [chunks groups](sum, squares).
func groupScales(mean, scale []float32, sums []float64, gamma []float32, groups int, n, eps float64) {
	per := len(mean) / groups
	for g := range groups {
		var sum, squares float64
		for i := 2 * g; i < len(sums); i += 2 * groups {
			sum += sums[i]
			squares += sums[i+1]
		}
		m, rstd := normOf(sum, squares, n, eps)
		for i := g * per; i < (g+1)*per; i++ {
			mean[i], scale[i] = float32(m), float32(rstd*float64(gamma[i]))
		}
	}
}

// normOf is the mean and 1/sqrt(variance+eps). The variance is clamped at 0 by a comparison that NaN fails, so
// NaN stays NaN.
func normOf(sum, squares, n, eps float64) (mean, rstd float64) {
	mean = sum / n
	variance := squares/n - mean*mean
	if variance < 0 {
		variance = 0
	}
	return mean, 1 / math.Sqrt(variance+eps)
}

// LayerNorm normalises each row.
//
//	out, x      [rows c]   out may be x
//	gamma, beta [c]        or both nil
func (p *Pool) LayerNorm(out, x []float32, rows, c int, gamma, beta []float32, eps float32) {
	check("layer norm", "x", len(x), rows*c)
	check("layer norm", "out", len(out), len(x))
	if gamma == nil && beta == nil {
		gamma, beta = p.identity(c)
	}
	check("layer norm", "gamma", len(gamma), c)
	check("layer norm", "beta", len(beta), c)
	if len(x) == 0 {
		return
	}
	step := max(1, chunk/c)
	p.For(ceilDiv(rows, step), func(_, i int) {
		for r := i * step; r < min((i+1)*step, rows); r++ {
			row := x[r*c : (r+1)*c]
			sum, squares := p.k.moments(row)
			m, rstd := normOf(sum, squares, float64(c), float64(eps))
			p.k.normRow(out[r*c:(r+1)*c], row, gamma, beta, float32(m), float32(rstd))
		}
	})
}

// identity is a gamma and a beta that change nothing.
func (p *Pool) identity(c int) (gamma, beta []float32) {
	if len(p.ones) < c {
		p.ones, p.zeros = make([]float32, c), make([]float32, c)
		for i := range p.ones {
			p.ones[i] = 1
		}
	}
	return p.ones[:c], p.zeros[:c]
}

// RMSNorm divides each row by the root of the mean of its squares (Zhang and Sennrich 2019).
//
//	out, x [rows c]   out may be x
//	gamma  [c]        or nil
func (p *Pool) RMSNorm(out, x []float32, rows, c int, gamma []float32, eps float32) {
	check("rms norm", "x", len(x), rows*c)
	check("rms norm", "out", len(out), len(x))
	if gamma != nil {
		check("rms norm", "gamma", len(gamma), c)
	}
	p.rows(rows, c, func(from, to int) {
		for r := from; r < to; r++ {
			row, y := x[r*c:(r+1)*c], out[r*c:(r+1)*c]
			_, squares := p.k.moments(row)
			p.k.scale(y, row, float32(1/math.Sqrt(squares/float64(c)+float64(eps))))
			if gamma != nil {
				p.k.mul(y, y, gamma)
			}
		}
	})
}
