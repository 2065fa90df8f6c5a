package program

import (
	"slices"

	G "gorgonia.org/gorgonia"
)

// Note [Values that stay on a device]
//
// Programs that run one after the other on a device with kernels may leave values for each other there: in every pass
// but the first an input may have its value from the pass before, a program may read what another has computed, and an
// input may have the same value in all passes. Nothing of that goes by way of the host then. It is said of copies of
// the programs, for one list of runs.

// Clone is a copy of p that can be linked without p.
func (p *Program) Clone() *Program {
	c := *p
	c.Values, c.Carried = slices.Clone(p.Values), nil
	return &c
}

// Once says of input nodes that their values are the same in all passes of an image: on a device they are put in their
// places in the first.
func (p *Program) Once(nodes []*G.Node) {
	for i := range p.Values {
		v := &p.Values[i]
		v.Once = v.Once || v.Kind == Input && slices.Contains(nodes, v.Node)
	}
}

// carried is an output that is an input's value in the next pass.
type carried struct{ in, out int } // values

// Carry says that an output is the value of an input in the next pass. On a device with kernels it is computed in the
// input's place, and may stay there. If the output's operation cannot do that the value goes by way of the host.
func (p *Program) Carry(input *G.Node, output int) {
	out := p.Outputs[output]
	call := p.Values[out].First
	if call < 0 {
		return
	}
	op, ok := p.Calls[call].Host()
	if !ok {
		return
	}
	for _, arg := range op.InPlace() {
		in := p.Calls[call].In[arg]
		if v := &p.Values[in]; v.Node == input && v.Kind == Input && v.Last == call && v.Bytes == p.Values[out].Bytes {
			p.Carried = append(p.Carried, carried{in, out})
			return
		}
	}
}

// Share gives nodes that one program of a list computes, kept[i] those of progs[i], and later ones read, places of
// their own at the beginning of the memory that each has on a device with kernels; that of all from the first to the
// last such program must begin at the same address. Nodes that cannot be shared go by way of the host.
func Share(progs []*Program, kept [][]*G.Node) {
	size, first, last := 0, len(progs), -1
	for i, from := range progs {
		for _, n := range kept[i] {
			readers, at := from.readers(n, progs[i+1:])
			if len(readers) == 0 {
				continue
			}
			out := from.only(n, Activation)
			for _, v := range append(readers, out) {
				v.Shared, v.Offset = true, size
			}
			size += align(out.Bytes)
			first, last = min(first, i), max(last, i+1+at)
		}
	}
	for i := first; i <= last; i++ {
		progs[i].Shared = size
		if len(kept[i]) > 0 {
			progs[i].place()
		}
	}
}

// readers are the values of a node that p computes in the programs that read it, and which is the last of those. There
// are none if one of them cannot read it where p leaves it.
func (p *Program) readers(n *G.Node, later []*Program) (values []*Value, last int) {
	out := p.only(n, Activation)
	if out == nil || !p.Target.Kernels.Any() {
		return nil, 0
	}
	for i, q := range later {
		if !slices.ContainsFunc(q.Values, func(v Value) bool { return v.Node == n }) {
			continue
		}
		in := q.only(n, Input)
		if in == nil || in.Layout != Plain || in.DType != out.DType {
			return nil, 0
		}
		values, last = append(values, in), i
	}
	return values, last
}

// only is the one value that a node has in the program, and nil if it has none or more.
func (p *Program) only(n *G.Node, k Kind) (found *Value) {
	for i := range p.Values {
		v := &p.Values[i]
		if v.Node != n {
			continue
		}
		if found != nil || v.Kind != k {
			return nil
		}
		found = v
	}
	return found
}
