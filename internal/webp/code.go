package webp

import (
	"math/bits"
	"sort"
)

// bitWriter writes numbers from their lowest bit on.
type bitWriter struct {
	buf  []byte
	acc  uint64
	have uint
}

func (w *bitWriter) write(v uint32, n uint) {
	w.acc |= uint64(v) << w.have
	for w.have += n; w.have >= 8; w.have -= 8 {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
	}
}

func (w *bitWriter) bytes() []byte {
	if w.have > 0 {
		w.write(0, 8-w.have)
	}
	return w.buf
}

// The alphabets: green and the lengths of runs, red, blue, alpha, distances of runs.
const (
	lengths   = 256 // the first length among the symbols of green
	distances = 4
)

var alphabets = [5]int{lengths + 24, 256, 256, 256, 40}

// token is a pixel, or a run of them that repeats earlier ones.
type token struct {
	pixel    uint32
	run      int // pixels; 0 for a pixel
	distance int // as the format numbers it
}

// writeImage writes a picture of pixels that are coded as they are. top is false for a picture that is part of another.
func writeImage(w *bitWriter, px []uint32, width int, top bool) {
	w.write(0, 1) // no cache of colours
	if top {
		w.write(0, 1) // the same codes everywhere
	}
	tokens := tokenize(px, width)
	var counts [5][]int
	for i, n := range alphabets {
		counts[i] = make([]int, n)
	}
	for _, t := range tokens {
		t.symbols(func(alphabet, symbol int, _ uint32, _ uint) { counts[alphabet][symbol]++ })
	}
	var codes [5]code
	for i := range codes {
		codes[i] = newCode(counts[i], 15)
		codes[i].define(w)
	}
	for _, t := range tokens {
		t.symbols(func(alphabet, symbol int, extra uint32, n uint) {
			codes[alphabet].write(w, symbol)
			w.write(extra, n)
		})
	}
}

// tokenize finds runs that repeat the pixel to the left, or the row above.
func tokenize(px []uint32, width int) (tokens []token) {
	const least, most = 4, 4096
	for at := 0; at < len(px); {
		best := token{pixel: px[at]}
		// Distances 1 and 2 of the format are the pixel above and the one to the left.
		for number, back := range []int{1: width, 2: 1} {
			n := 0
			for number > 0 && back <= at && n < most && at+n < len(px) && px[at+n] == px[at+n-back] {
				n++
			}
			if n >= least && n > best.run {
				best = token{run: n, distance: number}
			}
		}
		tokens = append(tokens, best)
		at += max(best.run, 1)
	}
	return tokens
}

// symbols calls f with each symbol of a token, its alphabet and the bits that follow it.
func (t *token) symbols(f func(alphabet, symbol int, extra uint32, n uint)) {
	if t.run == 0 {
		f(0, int(t.pixel>>8&0xff), 0, 0)
		f(1, int(t.pixel>>16&0xff), 0, 0)
		f(2, int(t.pixel&0xff), 0, 0)
		f(3, int(t.pixel>>24), 0, 0)
		return
	}
	symbol, extra, n := prefix(t.run)
	f(0, lengths+symbol, extra, n)
	symbol, extra, n = prefix(t.distance)
	f(distances, symbol, extra, n)
}

// prefix is the symbol of a number from 1 on, and the bits that follow it.
func prefix(v int) (symbol int, extra uint32, n uint) {
	v--
	if v < 2 {
		return v, 0, 0
	}
	high := bits.Len(uint(v)) - 1
	n = uint(high - 1)
	return 2*high + v>>n&1, uint32(v) & (1<<n - 1), n
}

// code is a canonical Huffman code.
type code struct {
	lengths []int // 0 for a symbol that does not occur
	words   []uint32
	used    []int // symbols that occur
}

func newCode(counts []int, longest int) code {
	c := code{lengths: make([]int, len(counts)), words: make([]uint32, len(counts))}
	for s, n := range counts {
		if n > 0 {
			c.used = append(c.used, s)
		}
	}
	// Counts are raised until no word is too long.
	for least := 1; ; least *= 2 {
		if c.build(counts, least) <= longest {
			break
		}
	}
	next := uint32(0)
	for n := 1; n <= longest; n++ {
		for s, l := range c.lengths {
			if l == n {
				c.words[s] = bits.Reverse32(next) >> (32 - n)
				next++
			}
		}
		next <<= 1
	}
	return c
}

// build finds the lengths of words for counts of at least least, and returns the longest.
func (c *code) build(counts []int, least int) (longest int) {
	type node struct{ count, parent int }
	var nodes []node
	var free []int // nodes without parent, the largest count first
	for _, s := range c.used {
		free = append(free, len(nodes))
		nodes = append(nodes, node{max(counts[s], least), -1})
	}
	sort.SliceStable(free, func(i, j int) bool { return nodes[free[i]].count > nodes[free[j]].count })
	for len(free) > 1 {
		a, b := free[len(free)-1], free[len(free)-2]
		parent := len(nodes)
		nodes[a].parent, nodes[b].parent = parent, parent
		count := nodes[a].count + nodes[b].count
		nodes = append(nodes, node{count, -1})
		free = free[:len(free)-2]
		i := sort.Search(len(free), func(i int) bool { return nodes[free[i]].count <= count })
		free = append(free, 0)
		copy(free[i+1:], free[i:])
		free[i] = parent
	}
	for i, s := range c.used {
		n := 0
		for at := i; nodes[at].parent >= 0; at = nodes[at].parent {
			n++
		}
		c.lengths[s] = n
		longest = max(longest, n)
	}
	return longest
}

// write writes a symbol. The only one of a code takes no bits.
func (c *code) write(w *bitWriter, symbol int) {
	if len(c.used) > 1 {
		w.write(c.words[symbol], uint(c.lengths[symbol]))
	}
}

// define writes the code itself.
func (c *code) define(w *bitWriter) {
	if len(c.used) == 0 {
		c.used = []int{0}
	}
	if len(c.used) <= 2 && c.used[len(c.used)-1] < 256 {
		w.write(1, 1)
		w.write(uint32(len(c.used)-1), 1)
		w.write(1, 1) // the first takes 8 bits
		for _, s := range c.used {
			w.write(uint32(s), 8)
		}
		return
	}
	w.write(0, 1)
	ops := runLengths(c.lengths)
	counts := make([]int, 19)
	for _, op := range ops {
		counts[op.symbol]++
	}
	of := newCode(counts, 7)
	order := [19]int{17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	w.write(uint32(len(order)-4), 4)
	for _, s := range order {
		l := of.lengths[s]
		if len(of.used) == 1 && of.used[0] == s {
			l = 1 // which stands for no bits
		}
		w.write(uint32(l), 3)
	}
	w.write(0, 1) // lengths of the whole alphabet follow
	for _, op := range ops {
		of.write(w, op.symbol)
		w.write(op.extra, op.bits)
	}
}

// lengthOp is a length, or one of the symbols for repeated ones.
type lengthOp struct {
	symbol int
	extra  uint32
	bits   uint
}

// runLengths writes lengths with the symbols for repeated ones: 16 repeats the last length that is not 0 three to six
// times, 17 and 18 stand for 3 to 10 and 11 to 138 zeros.
func runLengths(lengths []int) (ops []lengthOp) {
	for at := 0; at < len(lengths); {
		l, n := lengths[at], 1
		for at+n < len(lengths) && lengths[at+n] == l {
			n++
		}
		at += n
		if l != 0 {
			ops = append(ops, lengthOp{symbol: l})
			n--
		}
		for n > 0 {
			switch {
			case l == 0 && n >= 11:
				k := min(n, 138)
				ops, n = append(ops, lengthOp{18, uint32(k - 11), 7}), n-k
			case l == 0 && n >= 3:
				k := min(n, 10)
				ops, n = append(ops, lengthOp{17, uint32(k - 3), 3}), n-k
			case l != 0 && n >= 3:
				k := min(n, 6)
				ops, n = append(ops, lengthOp{16, uint32(k - 3), 2}), n-k
			default:
				ops, n = append(ops, lengthOp{symbol: l}), n-1
			}
		}
	}
	return ops
}
