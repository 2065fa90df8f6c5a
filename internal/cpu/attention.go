package cpu

import (
	"math"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// AttentionShape describes softmax(Q K^T * Scale) V per image and head.
type AttentionShape struct {
	B, Sq, Skv, Heads, D int
	Scale                float32
	Causal               bool // query i sees keys 0 to i
}

// Note [Attention]
//
// An item is one head of one image and a block of queries. It walks the keys in blocks, lays each block out
// as weight panels (keys as columns, times Scale*log2(e); values as they are) and runs the GEMM micro-kernel
// on 48 queries at a time: scores, then powers of two of score minus running maximum, then their product
// with the values, added to the query's sums. When a maximum grows, the sums so far are scaled down. That is
// the online softmax of Milakov and Gimelshein (arXiv 1805.02867) as FlashAttention arranges it; the matrix
// of all scores never exists.

// Attention computes attention; out may not alias the inputs.
//
//	out, q [B Sq  heads*D]
//	k, v   [B Skv heads*D]
func (p *Pool) Attention(out, q, k, v []float32, s AttentionShape) {
	check("attention", "q", len(q), s.B*s.Sq*s.Heads*s.D)
	check("attention", "k", len(k), s.B*s.Skv*s.Heads*s.D)
	check("attention", "v", len(v), len(k))
	check("attention", "out", len(out), len(q))
	if len(out) == 0 {
		return
	}
	if s.Skv == 0 {
		panic("cpu: attention: no keys")
	}
	block := s.queryBlock()
	blocks := ceilDiv(s.Sq, block)
	p.For(s.B*s.Heads*blocks, func(worker, i int) {
		// Later queries see more keys under Causal, so they go first.
		row := (blocks - 1 - i/(s.B*s.Heads)) * block
		image, head := i%(s.B*s.Heads)/s.Heads, i%s.Heads
		w := s.Heads * s.D
		a := attention{AttentionShape: s, k: &p.k, s: &p.scratch[worker], zero: p.zero, row: row}
		a.rows = min(block, s.Sq-row)
		a.out = out[(image*s.Sq+row)*w+head*s.D:]
		a.q = q[(image*s.Sq+row)*w+head*s.D:]
		a.run(k[image*s.Skv*w+head*s.D:], v[image*s.Skv*w+head*s.D:])
	})
}

// queryRows is the number of queries whose scores exist at a time: 48 KiB for 256 keys.
const queryRows = 8 * tileRows

// queryBlock is the number of queries of an item: many, because each lays out all keys again, but their sums
// stay within 256 KiB.
func (s AttentionShape) queryBlock() int {
	return max(queryRows, min(16*queryRows, 64*1024/s.width()/queryRows*queryRows))
}

// keyBlock is the number of keys laid out at a time: up to 256 KiB with their values.
func (s AttentionShape) keyBlock() int {
	return max(tileCols, min(256, 32*1024/s.width()/tileCols*tileCols))
}

// width is the head dimension in whole panels.
func (s AttentionShape) width() int { return ceilDiv(s.D, tileCols) * tileCols }

// attention is one item.
type attention struct {
	AttentionShape
	k         *kernels
	s         *scratch
	zero      []float32
	out, q    []float32 // from the first query on
	row, rows int       // the first query, and how many

	keys, values []float32 // panels of the block of keys
	scores       []float32 // [queryRows][keyBlock]
	sums         []float32 // [rows rounded up to 6][width]
	max, total   []float32 // per query: of the scores so far, and of their powers
	queries, own []int     // byte offsets of the queries, and of rows of scores
}

func (a *attention) run(k, v []float32) {
	kb, d := a.keyBlock(), a.width()
	rows := ceilDiv(a.rows, tileRows) * tileRows
	panels := grow(&a.s.panel, kb*(a.D+d))
	a.keys, a.values = panels[:kb*a.D], panels[kb*a.D:]
	a.sums = grow(&a.s.strip, rows*d)
	row := grow(&a.s.row, queryRows*kb+2*rows)
	a.scores, a.max, a.total = row[:queryRows*kb], row[queryRows*kb:][:rows], row[queryRows*kb+rows:]
	off := grow(&a.s.offsets, rows+queryRows)
	a.queries, a.own = off[:rows], off[rows:]
	for i := range a.queries {
		a.queries[i] = 4 * a.Heads * a.D * min(i, a.rows-1)
	}
	clear(a.sums)
	for i := range a.max {
		a.max[i], a.total[i] = float32(math.Inf(-1)), 0
	}

	last := a.Skv
	if a.Causal {
		last = min(last, a.row+a.rows)
	}
	w := a.Heads * a.D
	for j := 0; j < last; j += kb {
		n := min(kb, last-j)
		a.k.keys(a.keys, k[j*w:], w, n, a.D, a.Scale*math.Log2E)
		packValues(a.values, v[j*w:], w, n, a.D)
		for r := 0; r < a.rows; r += queryRows {
			a.tile(r, j, n)
		}
	}
	a.store()
}

// packValues lays n rows of d numbers, ld apart, as panels [n][16], zero padded.
func packValues(dst, src []float32, ld, n, d int) {
	for p := 0; p < d; p += tileCols {
		cols := min(tileCols, d-p)
		for i := range n {
			row := dst[p*n+i*tileCols:][:tileCols]
			if cols == tileCols {
				*(*[tileCols]float32)(row) = [tileCols]float32(src[i*ld+p:])
				continue
			}
			clear(row[copy(row, src[i*ld+p:][:cols]):])
		}
	}
}

// tile takes queries [r,r+queryRows) of the item over keys [j,j+n).
func (a *attention) tile(r, j, n int) {
	rows := min(queryRows, a.rows-r)
	if a.Causal && j > a.row+r+rows-1 {
		return
	}
	ld := ceilDiv(n, tileCols) * tileCols
	t := tile{rows: rows, segs: 1, k: a.D, a: a.q, off: a.queries[r:], zero: a.zero, t: dtype.F32}
	t.b, t.bstep, t.c, t.ldc = floatBytes(a.keys), 4*tileCols*a.D, a.scores, ld
	a.panels(t, ld)
	for i := range rows {
		see := n
		if a.Causal {
			see = max(0, min(n, a.row+r+i-j+1))
		}
		a.softmax(r+i, a.scores[i*ld:(i+1)*ld], see)
	}
	for i := range a.own {
		a.own[i] = 4 * ld * i
	}
	d := a.width()
	t = tile{rows: rows, segs: 1, k: n, a: a.scores, off: a.own, zero: a.zero, t: dtype.F32}
	t.b, t.bstep, t.c, t.ldc, t.acc = floatBytes(a.values), 4*tileCols*n, a.sums[r*d:], d, 1
	a.panels(t, d)
}

// panels runs the micro-kernel over the panels of n columns.
func (a *attention) panels(t tile, n int) {
	for left := n / tileCols; left > 0; left -= t.panels {
		t.panels = a.k.group(left)
		a.s.tile = t
		a.k.tile(&a.s.tile)
		t.b, t.c = t.b[t.panels*t.bstep:], t.c[t.panels*tileCols:]
	}
}

// softmax turns one query's scores, of which the first n count, into powers relative to its running maximum.
func (a *attention) softmax(r int, scores []float32, n int) {
	inf := float32(math.Inf(-1))
	for i := n; i < len(scores); i++ {
		scores[i] = inf
	}
	m := max(a.max[r], a.k.rowMax(scores))
	if m != a.max[r] {
		if a.max[r] != inf {
			down := float32(math.Exp2(float64(a.max[r] - m)))
			a.total[r] *= down
			sums := a.sums[r*a.width() : (r+1)*a.width()]
			a.k.scale(sums, sums, down)
		}
		a.max[r] = m
	}
	if m == inf {
		m = 0 // every score is -Inf so far: all powers are 0, not 2^(Inf-Inf)
	}
	a.total[r] += a.k.exp2Sum(scores, m)
}

func (a *attention) store() {
	d := a.width()
	for r := range a.rows {
		a.k.scale(a.out[r*a.Heads*a.D:][:a.D], a.sums[r*d:][:a.D], 1/a.total[r])
	}
}
