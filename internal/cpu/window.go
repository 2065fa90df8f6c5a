package cpu

import (
	"math"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// Window is what a filter or a pool sees of images [B H W C].
type Window struct {
	B, H, W, C                           int
	KH, KW                               int
	StrideH, StrideW                     int
	DilationH, DilationW                 int // how far neighbours in the window are apart
	PadTop, PadLeft, PadBottom, PadRight int
}

// Out is the number of windows down and across. It is below 1 if the window is larger than the image with its padding.
func (s Window) Out() (h, w int) {
	h = windows(s.H+s.PadTop+s.PadBottom, s.KH, s.StrideH, s.DilationH)
	w = windows(s.W+s.PadLeft+s.PadRight, s.KW, s.StrideW, s.DilationW)
	return h, w
}

func windows(size, kernel, stride, dilation int) int {
	left := size - (kernel-1)*dilation - 1
	if left < 0 {
		return 0
	}
	return left/stride + 1
}

// at is the place of input pixel (ky,kx) of the window of output pixel m, counted in pixels, -1 outside the image.
func (s Window) at(m, h, w, ky, kx int) int {
	b, y, x := m/(h*w), m/w%h, m%w
	y, x = y*s.StrideH+ky*s.DilationH-s.PadTop, x*s.StrideW+kx*s.DilationW-s.PadLeft
	if y < 0 || x < 0 || y >= s.H || x >= s.W {
		return -1
	}
	return (b*s.H+y)*s.W + x
}

// offsets fills the table of Note [GEMM] for output pixels [row,row+rows).
func (s Window) offsets(off []int, row, rows int) {
	h, w := s.Out()
	n := len(off) / (s.KH * s.KW)
	for r := range n {
		m := row + min(r, rows-1)
		for ky := range s.KH {
			for kx := range s.KW {
				at := s.at(m, h, w, ky, kx)
				if at > 0 {
					at *= 4 * s.C
				}
				off[(ky*s.KW+kx)*n+r] = at
			}
		}
	}
}

// ConvWindow is Conv over any window, in groups: outputs are cut into as many parts as channels are, and a part of the
// outputs sees its part of the channels.
//
//	out  [B h w N]
//	in   [B H W C]
//	w    PackConv's [N C/groups KH KW]
//	bias [N] or nil
func (p *Pool) ConvWindow(out, in []float32, s Window, w Panels, groups int, bias []float32) {
	h, wd := s.Out()
	m := s.B * h * wd
	check("conv", "in", len(in), s.B*s.H*s.W*s.C)
	check("conv", "weight rows", w.K*groups, s.KH*s.KW*s.C)
	check("conv", "out", len(out), m*w.N)
	w.check("conv")
	if bias != nil {
		check("conv", "bias", len(bias), w.N)
	}
	switch {
	case groups == 1:
		g := gemm{p: p, op: "conv", c: out, a: in, m: m, w: w, ep: Epilogue{Bias: bias}, taps: s.KH * s.KW, cin: s.C}
		g.offsets = func(off []int, row, rows int) { s.offsets(off, row, rows) }
		g.run()
	case groups == s.C && groups == w.N:
		p.depthwise(out, in, s, w, bias)
	default:
		g := grouped{Window: s, k: &p.k, zero: p.zero, out: out, in: in, w: w, bias: bias}
		g.cin, g.cout = s.C/groups, w.N/groups
		panels := ceilDiv(w.N, tileCols)
		p.For(ceilDiv(m, g.k.mc)*panels, func(worker, i int) {
			row := i / panels * g.k.mc
			g.item(&p.scratch[worker], row, min(g.k.mc, m-row), i%panels)
		})
	}
}

// grouped is a convolution whose groups are narrower than a matrix product wants. A panel of 16 outputs may belong to
// several groups: each of them sums all 16 columns over its own channels, and keeps those that are its own.
type grouped struct {
	Window
	k             *kernels
	zero, out, in []float32
	w             Panels
	bias          []float32
	cin, cout     int // of one group
}

// item computes rows [row,row+rows) of the columns of one panel.
func (g *grouped) item(s *scratch, row, rows, panel int) {
	taps, tiles := g.KH*g.KW, ceilDiv(rows, tileRows)
	strip := grow(&s.strip, tiles*tileRows*tileCols)
	off := grow(&s.offsets, taps*tiles*tileRows)
	g.offsets(off, row, rows)
	first := panel * tileCols
	last := min(first+tileCols, g.w.N)
	for group := first / g.cout; group*g.cout < last; group++ {
		g.sum(s, strip, off, tiles, rows, panel, group)
		from, to := max(first, group*g.cout), min(last, (group+1)*g.cout)
		for r := range rows {
			sums, out := strip[r*tileCols+from-first:][:to-from], g.out[(row+r)*g.w.N+from:][:to-from]
			if g.bias != nil {
				g.k.add(out, sums, g.bias[from:to])
			} else {
				copy(out, sums)
			}
		}
	}
}

// sum multiplies the channels of a group with all columns of a panel.
func (g *grouped) sum(s *scratch, strip []float32, off []int, tiles, rows, panel, group int) {
	size := g.w.DType.Size()
	w := g.w.Data[panel*g.w.K*tileCols*size:][:g.w.K*tileCols*size]
	for b := (kBlock{}); b.next(g.KH*g.KW, g.cin); {
		buf := grow(&s.panel, b.segs*b.k*tileCols)
		g.k.toF32(buf, w[b.at*tileCols*size:][:len(buf)*size], g.w.DType)
		t := tile{rows: rows, panels: 1, segs: b.segs, k: b.k, acc: min(b.at, 1), zero: g.zero, t: dtype.F32}
		t.a, t.off, t.stride = g.in[group*g.cin+b.ci:], off[b.tap*tiles*tileRows:], tiles*tileRows
		t.b, t.bstep, t.c, t.ldc = floatBytes(buf), 4*len(buf), strip, tileCols
		s.tile = t
		g.k.tile(&s.tile)
	}
}

// depthwise is a convolution in which each channel has its own filter: a row of the result is a sum of pixels times
// rows of weights.
func (p *Pool) depthwise(out, in []float32, s Window, w Panels, bias []float32) {
	h, wd := s.Out()
	m, c := s.B*h*wd, s.C
	step := max(32, ceilDiv(m, 8*p.threads)) // an item lays out all weights again
	p.For(ceilDiv(m, step), func(worker, i int) {
		sc := &p.scratch[worker]
		weights, part := p.tapRows(sc, w), grow(&sc.row, c)
		for r := i * step; r < min((i+1)*step, m); r++ {
			row := out[r*c : (r+1)*c]
			if clear(row); bias != nil {
				copy(row, bias)
			}
			for tap := range s.KH * s.KW {
				if at := s.at(r, h, wd, tap/s.KW, tap%s.KW); at >= 0 {
					p.k.mul(part, in[at*c:(at+1)*c], weights[tap*c:(tap+1)*c])
					p.k.add(row, row, part)
				}
			}
		}
	})
}

// tapRows lays panels out as rows [K][N] of float32.
func (p *Pool) tapRows(s *scratch, w Panels) []float32 {
	size := tileCols * w.DType.Size()
	rows := grow(&s.strip, w.K*w.N)
	one := grow(&s.panel, tileCols)
	for panel := range ceilDiv(w.N, tileCols) {
		for k := range w.K {
			p.k.toF32(one, w.Data[(panel*w.K+k)*size:][:size], w.DType)
			copy(rows[k*w.N+panel*tileCols:(k+1)*w.N], one)
		}
	}
	return rows
}

// patches runs body for each of n pixels and ranges [from,to) of channels that cover c: all channels at once where
// there are pixels for all threads.
func (p *Pool) patches(n, c int, body func(worker, pixel, from, to int)) {
	parts := max(1, min(ceilDiv(c, tileCols), 4*p.threads/max(1, n)))
	step := ceilDiv(ceilDiv(c, parts), tileCols) * tileCols
	parts = ceilDiv(c, step)
	each := max(1, chunk/max(1, c))
	p.For(ceilDiv(n, each)*parts, func(worker, i int) {
		from := i % parts * step
		for pixel := i / parts * each; pixel < min(n, (i/parts+1)*each); pixel++ {
			body(worker, pixel, from, min(c, from+step))
		}
	})
}

// MaxPool is the largest number of each window, or NaN if there is one.
//
//	in  [B H W C]
//	out [B h w C]
func (p *Pool) MaxPool(out, in []float32, s Window) {
	h, w := s.pool("max pool", len(out), len(in))
	p.patches(s.B*h*w, s.C, func(_, m, from, to int) {
		best := out[m*s.C+from : m*s.C+to]
		for i := range best {
			best[i] = float32(math.Inf(-1))
		}
		for tap := range s.KH * s.KW {
			at := s.at(m, h, w, tap/s.KW, tap%s.KW)
			if at < 0 {
				continue
			}
			row := in[at*s.C+from : at*s.C+to]
			for i := range best[:len(row)] {
				best[i] = max(best[i], row[i])
			}
		}
	})
}

// AveragePool is the mean of each window, of which padding is a part.
//
//	in  [B H W C]
//	out [B h w C]
func (p *Pool) AveragePool(out, in []float32, s Window) {
	h, w := s.pool("average pool", len(out), len(in))
	p.patches(s.B*h*w, s.C, func(_, m, from, to int) {
		sum := out[m*s.C+from : m*s.C+to]
		clear(sum)
		for tap := range s.KH * s.KW {
			if at := s.at(m, h, w, tap/s.KW, tap%s.KW); at >= 0 {
				p.k.add(sum, sum, in[at*s.C+from:at*s.C+to])
			}
		}
		p.k.scale(sum, sum, 1/float32(s.KH*s.KW))
	})
}

func (s Window) pool(op string, out, in int) (h, w int) {
	h, w = s.Out()
	check(op, "in", in, s.B*s.H*s.W*s.C)
	check(op, "out", out, s.B*h*w*s.C)
	return h, w
}

// AdaptiveAverage cuts images into h times w parts, which overlap by a pixel where the sizes do not divide, and is the
// mean of each.
//
//	in  [B H W C]
//	out [B h w C]
func (p *Pool) AdaptiveAverage(out, in []float32, b, height, width, c, h, w int) {
	check("adaptive average", "in", len(in), b*height*width*c)
	check("adaptive average", "out", len(out), b*h*w*c)
	p.patches(b*h*w, c, func(worker, m, from, to int) {
		sum, row := out[m*c+from:m*c+to], grow(&p.scratch[worker].row, to-from)
		top, bottom := Part(m/w%h, h, height)
		left, right := Part(m%w, w, width)
		clear(sum)
		for y := top; y < bottom; y++ {
			clear(row) // sums of rows, and then of them, keep more digits than one long sum
			for x := left; x < right; x++ {
				at := ((m/(h*w)*height+y)*width + x) * c
				p.k.add(row, row, in[at+from:at+to])
			}
			p.k.add(sum, sum, row)
		}
		p.k.scale(sum, sum, 1/float32((bottom-top)*(right-left)))
	})
}

// Part is the range of part i of n of a size, as torch's adaptive pools cut it.
func Part(i, n, size int) (from, to int) { return i * size / n, ceilDiv((i+1)*size, n) }
