package cpu

import "github.com/euryale-ml/euryale/internal/dtype"

// kernels is one twin of the inner loops: portable Go, or assembly. None of them starts threads. Unless said
// otherwise all slices of a call have the same length and out may be one of the inputs.
type kernels struct {
	name   string
	panels int // neighbouring panels that tile likes best at once
	mc     int // rows of A per work item: with kcMax 192 make 288 KiB, which stays in the L2 cache

	tile      func(t *tile)                                      // see tile
	toF32     func(dst []float32, src []byte, t dtype.Type)      // exact
	fromF32   func(dst []byte, t dtype.Type, src []float32)      // to nearest
	add       func(out, a, b []float32)                          // a+b
	add3      func(out, a, b, c []float32)                       // a+b+c
	sub       func(out, a, b []float32)                          // a-b
	mul       func(out, a, b []float32)                          // a*b
	scale     func(out, x []float32, s float32)                  // x*s
	activate  func(out, x []float32, act Activation)             // all but None and GEGLU
	geglu     func(out, value, gate []float32)                   // value * GELU(gate)
	rowMax    func(x []float32) float32                          // len(x) a multiple of 16
	exp2Sum   func(x []float32, m float32) float32               // x = 2^(x-m), x <= m; the sum. len(x) a multiple of 16
	moments   func(x []float32) (sum, squares float64)           // of one row
	extent    func(x []float32) (low, high float32, sum float64) // of finite numbers, at least one
	chMoments func(sum, squares []float64, x []float32)          // per channel over the rows of x; overwrites
	norm      func(out, x, mean, scale, shift []float32)         // (x-mean)*scale + shift
	normSiLU  func(out, x, mean, scale, shift []float32)         // SiLU of it
	normRow   func(o, x, gamma, beta []float32, m, r float32)    // (x-m)*r*gamma + beta
	keys      func(dst, src []float32, ld, n, d int, s float32)
	peak      func(iters int) (flops float64) // register-only FMA
}

// group is how many of n panels to take next: all calls of about the same number.
func (k *kernels) group(n int) int { return ceilDiv(n, ceilDiv(n, k.panels)) }

// tile is one call of the micro-kernel:
//
//	c[r][16p:16p+16] (+)= sum over s<segs, i<k of A(s,r)[i] * b[p*bstep:][s*k+i][0:16]     r < rows, p < panels
//
// c and off have room for a multiple of six rows; those of c from rows on are undefined after the call.
// A(s,r) is the memory at byte offset off[s*stride+r] of a, or zeros when that is negative. A call adds up its
// part of the sum from zero, in the order of (s,i), and then adds it to c: sums in blocks keep more digits than
// one long sum.
type tile struct {
	rows, panels int // at most 6, at most kernels.panels
	segs, k      int
	a            []float32
	off          []int
	stride       int
	zero         []float32 // at least k zeros
	b            []byte    // panels of [segs*k][16] of type t
	bstep        int       // bytes from panel to panel
	t            dtype.Type
	c            []float32
	ldc          int
	acc          int // 1: add to c, 0: overwrite it
}

const (
	tileRows = 6
	tileCols = 16
	kcMax    = 384 // rows of a weight panel per block: 24 KiB of float32
)
