package program

import (
	"sort"

	"gorgonia.org/tensor"
)

// Align is the alignment of every buffer: a cache line, and what the widest vector loads like.
const Align = 64

func align(n int) int { return (n + Align - 1) / Align * Align }

func (p *Program) shapes(in []int) []tensor.Shape {
	s := make([]tensor.Shape, len(in))
	for i, v := range in {
		s[i] = p.Values[v].Shape
	}
	return s
}

// liveness fills in when each activation is written and last read, and each call's FLOPs.
func (c *compiler) liveness() {
	p := c.prog
	for i := range p.Calls {
		call := &p.Calls[i]
		p.Values[call.Out].First = i
		for _, in := range call.In {
			p.Values[in].Last = i
		}
		if op, ok := call.Op.(interface {
			FLOPs(out tensor.Shape, in []tensor.Shape) int64
		}); ok {
			call.FLOPs = op.FLOPs(p.Values[call.Out].Shape, p.shapes(call.In))
		}
	}
	for _, out := range p.Outputs {
		p.Values[out].Last = len(p.Calls)
	}
}

// block is memory that one value, or several that take it over from each other, have from call first to last.
type block struct{ bytes, first, last, offset int }

// place gives every activation its offset. Results that may take over a dying argument's memory share its
// block.
func (p *Program) place() {
	p.Bound = 0
	var blocks []*block
	of := map[int]*block{}
	for i, call := range p.Calls {
		out := &p.Values[call.Out]
		if s := call.Scratch; s >= 0 {
			b := &block{bytes: align(p.Values[s].Bytes), first: i, last: i}
			blocks, of[s] = append(blocks, b), b
		}
		if out.Shared {
			continue
		}
		if b := p.takeOver(i, call); b >= 0 && of[b] != nil {
			of[b].last = out.Last
			of[call.Out] = of[b]
			continue
		}
		b := &block{bytes: align(out.Bytes), first: i, last: max(out.Last, i)}
		blocks, of[call.Out] = append(blocks, b), b
	}

	alive := make([]int, len(p.Calls)+1)
	for _, b := range blocks {
		for i := b.first; i <= min(b.last, len(p.Calls)-1); i++ {
			alive[i] += b.bytes
		}
	}
	for _, n := range alive {
		p.Bound = max(p.Bound, n)
	}

	// Longest-lived first makes a stack of them at the bottom and leaves the top free where little is alive, which
	// streamed weights can use; largest first sometimes packs tighter.
	p.Arena = pack(blocks, func(a, b *block) bool {
		if d, e := a.last-a.first, b.last-b.first; d != e {
			return d > e
		}
		return a.bytes > b.bytes
	})
	if tight := p.Bound + p.Bound/64; p.Arena > tight {
		p.Arena = pack(blocks, func(a, b *block) bool { return a.bytes > b.bytes })
	}
	for v, b := range of {
		p.Values[v].Offset = b.offset
	}
}

// pack places blocks in the order of less, each at the lowest offset free over its whole life, and returns the
// bytes it takes.
func pack(blocks []*block, less func(a, b *block) bool) (arena int) {
	order := append([]*block(nil), blocks...)
	sort.SliceStable(order, func(i, j int) bool { return less(order[i], order[j]) })
	var placed []*block // by offset
	for _, b := range order {
		at := 0
		for _, q := range placed {
			if q.last < b.first || b.last < q.first {
				continue
			}
			if at+b.bytes <= q.offset {
				break
			}
			at = max(at, q.offset+q.bytes)
		}
		b.offset = at
		k := sort.Search(len(placed), func(i int) bool { return placed[i].offset > at })
		placed = append(placed, nil)
		copy(placed[k+1:], placed[k:])
		placed[k] = b
		arena = max(arena, at+b.bytes)
	}
	return arena
}

// takeOver returns the argument whose memory call i's result may use, or -1.
func (p *Program) takeOver(i int, call Call) int {
	op, ok := call.Host()
	if !ok {
		return -1
	}
	for _, arg := range op.InPlace() {
		v := p.Values[call.In[arg]]
		if v.Kind != Activation || v.Last != i || v.Bytes != p.Values[call.Out].Bytes {
			continue
		}
		once := 0
		for _, in := range call.In {
			if in == call.In[arg] {
				once++
			}
		}
		if once == 1 {
			return call.In[arg]
		}
	}
	return -1
}
