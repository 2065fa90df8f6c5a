package cpu

import "github.com/euryale-ml/euryale/internal/dtype"

// Note [GEMM]
//
// A convolution over channels-last images is a matrix product whose row m, the output pixel, reads kh*kw runs
// of Cin neighbouring numbers: one run per tap. So the micro-kernel takes the place of each run from a small
// table of offsets, and neither a column buffer nor packed copies of A exist. Linear is the case of one tap.
//
// The work is split into items of up to 192 rows by a strip of up to 8 weight panels. An item walks K in
// blocks of up to 384; per block and panel it converts the weights to float32 once (24 KiB, L1) and runs the
// 6x16 micro-kernel down its rows (A: up to 288 KiB, L2). The sums stay in the item's strip until K is done,
// then the epilogue stores them.
//
// With 12 rows or fewer the micro-kernel reads the stored weights and converts them in registers: each is
// used once or twice, and the time is that of reading them.
//
// The tables follow XNNPACK's indirect convolution (Dukhan, arXiv 1907.02129).

// Linear computes C = ep(A W^T).
//
//	c [m N]     [m N/2] with GEGLU
//	a [m K]
//	w [N K]
func (p *Pool) Linear(c, a []float32, m int, w Panels, ep Epilogue) {
	check("linear", "a", len(a), m*w.K)
	g := gemm{p: p, op: "linear", c: c, a: a, m: m, w: w, ep: ep, taps: 1, cin: w.K}
	g.offsets = func(off []int, row, rows int) {
		for r := range off {
			off[r] = 4 * w.K * (row + min(r, rows-1))
		}
	}
	g.run()
}

// gemm is one matrix product.
type gemm struct {
	p         *Pool
	op        string
	c, a      []float32
	m         int
	w         Panels
	ep        Epilogue
	taps, cin int // K = taps * cin

	// offsets fills off [taps][len(off)/taps]: the byte offset in a of each row's run, -1 for zeros. Rows past
	// the last repeat it.
	offsets func(off []int, row, rows int)

	mc     int // rows of an item
	panels int // weight panels of an item, not counting gates
	strips int // items side by side
}

func (g *gemm) run() {
	g.w.check(g.op)
	g.ep.check(g.op, g.m, g.w.N)
	n := g.ep.cols(g.w.N)
	check(g.op, "c", len(g.c), g.m*n)
	if g.m == 0 || n == 0 {
		return
	}
	blocks := ceilDiv(g.m, g.p.k.mc)
	g.mc = ceilDiv(ceilDiv(g.m, blocks), tileRows) * tileRows
	blocks = ceilDiv(g.m, g.mc)

	total, most := ceilDiv(n, tileCols), 8
	if g.ep.Act == GEGLU {
		most = 4
	}
	// At least four items a thread, so that the last ones to finish are a small part of the whole.
	g.strips = max(ceilDiv(total, most), min(total, ceilDiv(4*g.p.threads, blocks)))
	g.panels = ceilDiv(total, g.strips)
	g.strips = ceilDiv(total, g.panels)
	g.p.For(blocks*g.strips, func(worker, i int) {
		g.item(&g.p.scratch[worker], i/g.strips*g.mc, i%g.strips*g.panels)
	})
}

// item computes rows [row,row+mc) of the columns of panels [panel,panel+g.panels).
func (g *gemm) item(s *scratch, row, panel int) {
	rows := min(g.mc, g.m-row)
	tiles := ceilDiv(rows, tileRows)
	panels := min(g.panels, ceilDiv(g.ep.cols(g.w.N), tileCols)-panel)
	gates := 0
	gate0 := (g.w.N/2 + panel*tileCols) / tileCols
	if g.ep.Act == GEGLU {
		last := min(g.w.N/2, (panel+panels)*tileCols) + g.w.N/2
		gates = ceilDiv(last, tileCols) - gate0
	}
	ld := (panels + gates) * tileCols
	strip := grow(&s.strip, tiles*tileRows*ld)
	off := grow(&s.offsets, g.taps*tiles*tileRows)
	g.offsets(off, row, rows)

	t := tile{a: g.a, off: off, stride: tiles * tileRows, zero: g.p.zero, ldc: ld}
	g.columns(s, t, strip, panel, panels, rows)
	g.columns(s, t, strip[panels*tileCols:], gate0, gates, rows)
	g.store(s, strip, ld, row, rows, panel, panels, gate0)
}

// columns adds up the columns of panels [panel,panel+panels) for all rows of the item.
func (g *gemm) columns(s *scratch, t tile, c []float32, panel, panels, rows int) {
	size := g.w.DType.Size()
	raw := rows <= 2*tileRows || (g.w.DType == dtype.F32 && g.p.k.name != "portable")
	for ; panels > 0; panel, panels, c = panel+t.panels, panels-t.panels, c[t.panels*tileCols:] {
		t.panels = g.p.k.group(panels)
		w := g.w.Data[panel*g.w.K*tileCols*size:][:t.panels*g.w.K*tileCols*size]
		for b := (kBlock{}); b.next(g.taps, g.cin); {
			t.segs, t.k, t.acc = b.segs, b.k, min(b.at, 1)
			t.a = g.a[b.ci:]
			n := b.segs * b.k * tileCols
			if raw {
				t.b, t.t, t.bstep = w[b.at*tileCols*size:], g.w.DType, g.w.K*tileCols*size
			} else {
				buf := grow(&s.panel, t.panels*n)
				for p := range t.panels {
					g.p.k.toF32(buf[p*n:(p+1)*n], w[(p*g.w.K+b.at)*tileCols*size:][:n*size], g.w.DType)
				}
				t.b, t.t, t.bstep = floatBytes(buf), dtype.F32, 4*n
			}
			s.tile = t
			s.tile.off, s.tile.rows, s.tile.c = t.off[b.tap*t.stride:], rows, c
			g.p.k.tile(&s.tile)
		}
	}
}

// kBlock is a part of the sum: several whole taps, or a part of one.
type kBlock struct {
	tap, ci int // where it begins
	segs, k int // runs, and their length
	at      int // row of the weight panel
}

// next moves to the next block and reports whether there is one.
func (b *kBlock) next(taps, cin int) bool {
	b.at += b.segs * b.k
	b.ci += b.k
	if b.ci >= cin {
		b.tap, b.ci = b.tap+b.segs, 0
	}
	if b.k == 0 {
		b.tap, b.ci = 0, 0
	}
	if b.tap >= taps || cin == 0 {
		return false
	}
	if cin <= kcMax {
		b.segs, b.k = min(kcMax/cin, taps-b.tap), cin
		return true
	}
	parts := ceilDiv(cin, kcMax)
	b.segs, b.k = 1, min(ceilDiv(cin, parts), cin-b.ci)
	return true
}

// store runs the epilogue over the item's sums.
func (g *gemm) store(s *scratch, strip []float32, ld, row, rows, panel, panels, gate0 int) {
	n := g.ep.cols(g.w.N)
	n0 := panel * tileCols
	cols := min(n-n0, panels*tileCols)
	shift := grow(&s.row, ld)
	gate := 0
	if g.ep.Act == GEGLU {
		gate = panels*tileCols + n + n0 - gate0*tileCols
	}
	image := -1
	for r := range rows {
		at := 0
		if g.ep.Channels != nil {
			at = (row + r) / g.ep.ChannelsStride
		}
		if at != image {
			image = at
			g.ep.shift(&g.p.k, shift[:panels*tileCols], image, g.w.N, n0)
			g.ep.shift(&g.p.k, shift[panels*tileCols:], image, g.w.N, gate0*tileCols)
		}
		place := (row+r)*n + n0
		var residual []float32
		if g.ep.Residual != nil {
			residual = g.ep.Residual[place : place+cols]
		}
		g.ep.finish(&g.p.k, g.c[place:place+cols], strip[r*ld:(r+1)*ld], shift, residual, gate)
	}
}
