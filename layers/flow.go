// Package layers builds the nodes of diffusion models. The op of a node is a Gorgonia op whose Do is its readable
// definition, with a fast host form beside it. Activations are channels-last.
//
// Shapes use one alphabet: B batch, H height, W width, C channels, S sequence, D head dimension; "..." stands
// for any number of leading dimensions.
package layers

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/ops"
	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/stack"
	G "gorgonia.org/gorgonia"
)

// Flow is a node under construction. The first error sticks, as in bufio.Scanner; a Flow is a value, so a
// fork is a copy. Steps that take a name use the weights of that name in the flow's scope.
type Flow struct {
	s   Scope
	n   *G.Node
	err error
}

// Node ends the flow.
func (f Flow) Node() (*G.Node, error) { return f.n, f.err }

// At goes on in another place of the checkpoint.
func (f Flow) At(s Scope) Flow { f.s = s; return f }

// Then adds a step of the caller's own.
func (f Flow) Then(name string, step func(Scope, *G.Node) (*G.Node, error)) Flow {
	if f.err != nil {
		return f
	}
	if f.n == nil {
		f.err = stack.With(fmt.Errorf("%s: no input node", f.s.Sub(name).Name()))
		return f
	}
	n, err := step(f.s.Sub(name), f.n)
	switch {
	case f.s.hopeless(): // what is missing says more than where building stopped
		f.err = f.s.Err()
		return f
	case err != nil:
		f.err = stack.With(fmt.Errorf("%s: %w", f.s.Sub(name).Name(), err))
		return f
	}
	f.n = n
	return f
}

// apply adds one op over the flow's node and others, and names its node after the layer.
func (f Flow) apply(name string, k op.Kind, others ...*G.Node) Flow {
	return f.Then(name, func(s Scope, x *G.Node) (*G.Node, error) {
		return apply(s, k, append([]*G.Node{x}, others...)...)
	})
}

func apply(s Scope, k op.Kind, in ...*G.Node) (*G.Node, error) {
	if i := slices.Index(in, nil); i >= 0 {
		return nil, fmt.Errorf("argument %d of %v has no node", i, k)
	}
	n, err := G.ApplyOp(op.Op{Kind: k}, in...)
	if err == nil {
		G.WithName(s.Name())(n)
	}
	return n, stack.With(err)
}

// ShapeError reports an argument of an op that is not of a shape the op takes: Got, where Want says which. Op is the op
// with its settings, and Arg the name that its documentation gives the argument.
type ShapeError = op.ShapeError

// width is the size of the last dimension.
func (f Flow) width() int {
	if f.err != nil || f.n == nil {
		return 0
	}
	return op.Last(f.n.Shape())
}

// Linear is torch's Linear: weights name.weight [out In] and name.bias [out].
//
//	x      [... In]
//	result [... out]
func (f Flow) Linear(name string, out int) Flow { return f.linear(name, out, true) }

// LinearNoBias is Linear without name.bias.
func (f Flow) LinearNoBias(name string, out int) Flow { return f.linear(name, out, false) }

func (f Flow) linear(name string, out int, bias bool) Flow {
	in := f.width()
	return f.Then(name, func(s Scope, x *G.Node) (*G.Node, error) {
		args := []*G.Node{x, s.Weight("weight", out, in)}
		if bias {
			args = append(args, s.Weight("bias", out))
		}
		return apply(s, ops.Linear{Bias: bias}, args...)
	})
}

// Pointwise is Linear over weights a checkpoint may store as a 1x1 convolution, [out In 1 1].
//
//	x      [B H W In]
//	result [B H W out]
func (f Flow) Pointwise(name string, out int) Flow {
	return f.conv(name, out, 1, ops.Conv{Stride: 1, Up: 1})
}

// Conv is torch's Conv2d with stride 1 and the padding that keeps the size: weights name.weight
// [out In size size] and name.bias [out].
//
//	x      [B H W In]
//	result [B H W out]
func (f Flow) Conv(name string, out, size int) Flow {
	p := size / 2
	return f.conv(name, out, size, ops.Conv{Stride: 1, Up: 1, Pad: ops.Padding(Around(p))})
}

// ConvDown is a 3x3 Conv with stride 2. pad is the padding of the first rows and columns: 1, as UNets have
// it, or 0, as the VAE's encoder does; the last ones get 1.
//
//	x      [B H W In]
//	result [B H/2 W/2 out]
func (f Flow) ConvDown(name string, out, pad int) Flow {
	return f.conv(name, out, 3, ops.Conv{Stride: 2, Up: 1, Pad: ops.Padding(Sides{pad, pad, 1, 1})})
}

func (f Flow) conv(name string, out, size int, k ops.Conv) Flow {
	in := f.width()
	return f.Then(name, func(s Scope, x *G.Node) (*G.Node, error) {
		return apply(s, k, x, s.Weight("weight", out, in, size, size), s.Weight("bias", out))
	})
}

// GroupNorm is torch's GroupNorm over the last dimension's groups.
//
//	x, result [B ... C]
func (f Flow) GroupNorm(name string, groups int, eps float32) Flow {
	return f.norm(name, ops.GroupNorm{Groups: groups, Eps: eps})
}

// LayerNorm is torch's LayerNorm over the last dimension.
//
//	x, result [... C]
func (f Flow) LayerNorm(name string, eps float32) Flow { return f.norm(name, ops.LayerNorm{Eps: eps}) }

// LayerNormNoWeight is LayerNorm without name.weight and name.bias: torch's with elementwise_affine=False.
//
//	x, result [... C]
func (f Flow) LayerNormNoWeight(name string, eps float32) Flow {
	return f.apply(name, ops.LayerNorm{Eps: eps, Bare: true})
}

func (f Flow) norm(name string, k op.Kind) Flow {
	c := f.width()
	return f.Then(name, func(s Scope, x *G.Node) (*G.Node, error) {
		return apply(s, k, x, s.Weight("weight", c), s.Weight("bias", c))
	})
}

// SiLU is x sigmoid(x).
func (f Flow) SiLU() Flow { return f.apply("nonlinearity", elem.Activate{Act: op.SiLU}) }

// GEGLU is the first half of the last dimension times the GELU of the second.
//
//	x      [... 2C]
//	result [... C]
func (f Flow) GEGLU() Flow { return f.apply("geglu", elem.Activate{Act: op.GEGLU}) }

// GELU is x Phi(x), Phi being the normal distribution's function, computed by erf.
func (f Flow) GELU() Flow { return f.apply("act", elem.Activate{Act: op.GELU}) }

// GELUTanh is the approximation of GELU by tanh: torch's approximate="tanh", diffusers' "gelu-approximate".
func (f Flow) GELUTanh() Flow { return f.apply("act", elem.Activate{Act: op.GELUTanh}) }

// QuickGELU is the approximation x sigmoid(1.702 x), as CLIP's.
func (f Flow) QuickGELU() Flow { return f.apply("act", elem.Activate{Act: op.QuickGELU}) }

// ReLU is max(x, 0).
func (f Flow) ReLU() Flow { return f.apply("act", elem.Activate{Act: op.ReLU}) }

// Tanh is the hyperbolic tangent, which bounds gates.
func (f Flow) Tanh() Flow { return f.apply("act", elem.Activate{Act: op.Tanh}) }

// Activation applies a function by the name transformers' and diffusers' configs use.
func (f Flow) Activation(name string) Flow {
	act, err := activationOf(name)
	if err != nil && f.err == nil {
		f.err = stack.With(fmt.Errorf("%s: %w", f.s.Name(), err))
	}
	return f.apply("act", elem.Activate{Act: act})
}

// Add adds the result of another flow.
//
//	x, other, result [...]
func (f Flow) Add(other Flow) Flow { return f.with(other, "add", elem.Add{}) }

// AddChannels adds one vector of an image to all its pixels.
//
//	x      [B ... C]
//	other  [B C]
//	result [B ... C]
func (f Flow) AddChannels(other Flow) Flow { return f.with(other, "add_channels", elem.AddChannels{}) }

// Concat appends another flow's last dimension.
//
//	x      [... C]
//	other  [... C']
//	result [... C+C']
func (f Flow) Concat(other Flow) Flow { return f.with(other, "concat", elem.Concat{}) }

func (f Flow) with(other Flow, name string, k op.Kind) Flow { return f.join(name, k, other) }

// join applies an op to the flow's node and those of others.
func (f Flow) join(name string, k op.Kind, others ...Flow) Flow {
	var nodes []*G.Node
	for _, o := range others {
		switch {
		case f.err != nil:
		case o.err != nil:
			f.err = o.err
		case o.n == nil:
			f.err = fmt.Errorf("%s: an argument has no node", f.s.Sub(name).Name())
		}
		nodes = append(nodes, o.n)
	}
	return f.apply(name, k, nodes...)
}

// Attention attends from this flow's positions to those of k, taking v.
//
//	x, result [B ... Heads*D]
//	k, v      [B ... Heads*D]
func (f Flow) Attention(k, v Flow, heads int, causal bool) Flow {
	for _, o := range []Flow{k, v} {
		if f.err == nil {
			f.err = o.err
		}
	}
	return f.apply("attention", ops.Attention{Heads: heads, Causal: causal}, k.n, v.n)
}

// Upsample repeats pixels: twice the height and width.
//
//	x      [B H W C]
//	result [B 2H 2W C]
func (f Flow) Upsample() Flow { return f.apply("upsample", ops.Upsample{}) }

// UpsampleTo is Upsample, less the last row or column where h or w is odd.
//
//	x      [B H W C]
//	result [B h w C]   h is 2H or 2H-1, w likewise
func (f Flow) UpsampleTo(h, w int) Flow {
	return f.apply("upsample", ops.Upsample{OddHeight: h%2 == 1, OddWidth: w%2 == 1})
}

// Embed looks up token_embedding.weight [vocab c] and adds position_embedding.weight [positions c].
//
//	x      [B S]   int32
//	result [B S c]
func (f Flow) Embed(vocab, positions, c int) Flow {
	return f.Then("embeddings", func(s Scope, ids *G.Node) (*G.Node, error) {
		return apply(s, elem.Embed{}, ids, s.Weight("token_embedding.weight", vocab, c),
			s.Weight("position_embedding.weight", positions, c))
	})
}

// Pick takes position index of each sequence.
//
//	x      [B S C]
//	index  [B]      int32
//	result [B C]
func (f Flow) Pick(index *G.Node) Flow { return f.apply("pick", elem.Pick{}, index) }

// Timesteps is diffusers' sinusoidal embedding.
//
//	x      [B N]
//	result [B N*dim]
func (f Flow) Timesteps(dim int, flipSinToCos bool, freqShift float32) Flow {
	return f.apply("time_proj", elem.Timesteps{Dim: dim, Flip: flipSinToCos, Shift: freqShift})
}
