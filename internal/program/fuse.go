package program

// fuse joins a call with the only call that reads its result, as long as the pair has a fused form.
func (c *compiler) fuse() {
	p := c.prog
	readers := make([]int, len(p.Values))
	for _, call := range p.Calls {
		for _, in := range call.In {
			readers[in]++
		}
	}
	for _, out := range p.Outputs {
		readers[out]++
	}
	writer := make([]int, len(p.Values))
	for i := range writer {
		writer[i] = -1
	}
	dead := make([]bool, len(p.Calls))
	for i := range p.Calls {
		for again := true; again; {
			again = false
			for arg, in := range p.Calls[i].In {
				w := writer[in]
				if w < 0 || readers[in] != 1 {
					continue
				}
				if joined, ok := p.join(p.Calls[w], p.Calls[i], arg); ok {
					p.Calls[i], dead[w], again = joined, true, true
					break
				}
			}
		}
		writer[p.Calls[i].Out] = i
	}
	kept := p.Calls[:0]
	for i, call := range p.Calls {
		if !dead[i] {
			kept = append(kept, call)
		}
	}
	p.Calls = kept
}

func (p *Program) join(first, next Call, arg int) (Call, bool) {
	a, ok1 := first.Op.(Op)
	b, ok2 := next.Op.(Op)
	if !ok1 || !ok2 {
		return Call{}, false
	}
	op, ok := a.Fuse(b, arg, p.Values[next.Out].Shape)
	if !ok {
		return Call{}, false
	}
	in := append([]int(nil), first.In...)
	for i, v := range next.In {
		if i != arg {
			in = append(in, v)
		}
	}
	layer := first.Layer
	if b.FLOPs(p.Values[next.Out].Shape, p.shapes(next.In)) > 0 {
		layer = next.Layer
	}
	return Call{Op: op, Layer: layer, In: in, Out: next.Out, Scratch: -1}, true
}
