package layers

import (
	"github.com/euryale-ml/euryale/internal/ops"
	"github.com/euryale-ml/euryale/internal/ops/op"
	G "gorgonia.org/gorgonia"
)

// RMSNorm divides each vector of the last dimension by the root of the mean of its squares, and scales it: weight
// name.weight [C].
//
//	x, result  [... C]
func (f Flow) RMSNorm(name string, eps float32) Flow { return f.RMSNormHeads(name, 1, eps) }

// RMSNormHeads is RMSNorm of each head by itself, as attention does to queries and keys: weight name.weight [D].
//
//	x, result  [... heads*D]
func (f Flow) RMSNormHeads(name string, heads int, eps float32) Flow {
	c := f.width()
	return f.Then(name, func(s Scope, x *G.Node) (*G.Node, error) {
		k := ops.RMSNorm{Heads: heads, Eps: eps, Weight: true}
		if heads < 1 || c%heads != 0 {
			return nil, op.WrongShape(k, "x", x.Shape(), "[... C] with C a multiple of %d heads", heads)
		}
		return apply(s, k, x, s.Weight("weight", c/heads))
	})
}

// RMSNormNoWeight is RMSNorm without name.weight.
//
//	x, result  [... C]
func (f Flow) RMSNormNoWeight(name string, eps float32) Flow {
	return f.apply(name, ops.RMSNorm{Heads: 1, Eps: eps})
}
