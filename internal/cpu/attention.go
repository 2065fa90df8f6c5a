package cpu

import (
	"math"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// AttentionShape describes softmax(Q K^T * Scale) V per image and head.
type AttentionShape struct {
	B, Sq, Skv, Heads, D int
	KVHeads              int // of k and v, each for Heads/KVHeads heads of q; 0: Heads
	Scale                float32
	Causal               bool // query i sees keys 0 to i
	Bias                 AttentionBias
	Lengths              []int32 // keys that each image has, [B]; nil: Skv
}

// AttentionBias is added to the scaled scores: number Data[image*Image + head*Head + query*Row + key]. Without data
// nothing is added.
type AttentionBias struct {
	Data             []float32
	Image, Head, Row int
}

func (s AttentionShape) kvHeads() int {
	if s.KVHeads == 0 {
		return s.Heads
	}
	return s.KVHeads
}

// masked reports that a query may see no key. Its result is then zero.
func (s AttentionShape) masked() bool { return s.Bias.Data != nil || s.Lengths != nil }

// keys is how many keys an image has.
func (s AttentionShape) keys(image int) int {
	if s.Lengths == nil {
		return s.Skv
	}
	return max(0, min(s.Skv, int(s.Lengths[image])))
}

// Note [Attention]
//
// An item is one head of one image and a block of queries. It walks the keys in blocks, lays each block out
// as weight panels (keys as columns, times Scale*log2(e); values as they are) and runs the GEMM micro-kernel
// on 48 queries at a time: scores, then powers of two of score minus running maximum, then their product
// with the values, added to the query's sums. When a maximum grows, the sums so far are scaled down. That is
// the online softmax of Milakov and Gimelshein (arXiv 1805.02867) as FlashAttention arranges it; the matrix
// of all scores never exists.
//
// With a bias the scores are made in its units, and times log2(e) after it was added. Finite scores are kept finite in
// that: masks are often made of the lowest float32, of which a row of nothing else is a mean and not a division by
// zero.

// Attention computes attention; out may not alias the inputs.
//
//	out, q [B Sq  Heads*D]
//	k, v   [B Skv KVHeads*D]
func (p *Pool) Attention(out, q, k, v []float32, s AttentionShape) {
	check("attention", "q", len(q), s.B*s.Sq*s.Heads*s.D)
	check("attention", "k", len(k), s.B*s.Skv*s.kvHeads()*s.D)
	check("attention", "v", len(v), len(k))
	check("attention", "out", len(out), len(q))
	if s.Lengths != nil {
		check("attention", "lengths", len(s.Lengths), s.B)
	}
	if b := s.Bias; b.Data != nil {
		check("attention", "bias", len(b.Data), (s.B-1)*b.Image+(s.Heads-1)*b.Head+(s.Sq-1)*b.Row+s.Skv)
	}
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
		a := attention{AttentionShape: s, k: &p.k, s: &p.scratch[worker], zero: p.zero, row: row, last: s.keys(image)}
		a.rows = min(block, s.Sq-row)
		a.out = out[(image*s.Sq+row)*w+head*s.D:]
		a.q = q[(image*s.Sq+row)*w+head*s.D:]
		if s.Bias.Data != nil {
			a.bias = s.Bias.Data[image*s.Bias.Image+head*s.Bias.Head+row*s.Bias.Row:]
		}
		at := image*s.Skv*s.kvHeads()*s.D + head*s.kvHeads()/s.Heads*s.D
		a.run(k[at:], v[at:])
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
	last      int       // keys that the image has, and then those that the item sees
	bias      []float32 // of the first query, from the first key on; nil: none

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

	if a.Causal {
		a.last = min(a.last, a.row+a.rows)
	}
	w, scale := a.kvHeads()*a.D, a.Scale
	if a.bias == nil {
		scale *= math.Log2E
	}
	for j := 0; j < a.last; j += kb {
		n := min(kb, a.last-j)
		a.k.keys(a.keys, k[j*w:], w, n, a.D, scale)
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
		scores := a.scores[i*ld : (i+1)*ld]
		if a.bias != nil {
			a.addBias(scores, a.bias[(r+i)*a.Bias.Row+j:], see)
		}
		a.softmax(r+i, scores, see)
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

// addBias adds a query's bias to its scores, of which the first n count, and goes over to powers of two.
func (a *attention) addBias(scores, bias []float32, n int) {
	a.k.add(scores[:n], scores[:n], bias[:n])
	inf := float32(math.Inf(-1))
	for i := n; i < len(scores); i++ {
		scores[i] = inf
	}
	const least = -math.MaxFloat32 / math.Log2E
	if a.k.rowMax(scores) < least {
		for i, v := range scores[:n] {
			if v > inf {
				scores[i] = max(v, least)
			}
		}
	}
	a.k.scale(scores, scores, math.Log2E)
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
		if a.total[r] == 0 && a.masked() {
			clear(a.out[r*a.Heads*a.D:][:a.D])
			continue
		}
		a.k.scale(a.out[r*a.Heads*a.D:][:a.D], a.sums[r*d:][:a.D], 1/a.total[r])
	}
}
