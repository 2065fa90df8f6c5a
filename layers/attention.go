package layers

import (
	"github.com/euryale-ml/euryale/internal/ops"
	G "gorgonia.org/gorgonia"
)

// AttentionConfig is what Attend needs to know. Its zero values are those of usual attention.
type AttentionConfig struct {
	Heads   int
	KVHeads int     // heads of k and v, each of which serves Heads/KVHeads heads: grouped queries; 0: Heads
	Scale   float32 // of the scores; 0: 1/sqrt(D)
	Causal  bool    // a position sees itself and those before it

	// Bias is added to the scaled scores: -Inf hides a key.
	//
	//	[Heads Sq Skv]         of positions, as T5's
	//	[B 1 1 Skv]            of keys, as a mask of padding
	//	[B Heads Sq Skv]       in general, where each of B, Heads and Sq may be 1
	Bias *G.Node

	// Lengths is the number of keys that each image or prompt has, the first ones. It is an input or a constant of the
	// graph.
	//
	//	[B]   int32, 0 to Skv
	Lengths *G.Node
}

// Attend is Attention with all there is to choose. A position that sees no key gets zeros.
//
//	x, result [B ... Heads*D]
//	k, v      [B ... KVHeads*D]
func (f Flow) Attend(k, v Flow, cfg AttentionConfig) Flow {
	for _, o := range []Flow{k, v} {
		if f.err == nil {
			f.err = o.err
		}
	}
	kind := ops.Attention{Heads: cfg.Heads, KVHeads: cfg.KVHeads, Causal: cfg.Causal, Scale: cfg.Scale,
		Bias: cfg.Bias != nil, Lengths: cfg.Lengths != nil}
	if kind.KVHeads == kind.Heads {
		kind.KVHeads = 0 // the same op, and so the same hash
	}
	others := []*G.Node{k.n, v.n}
	for _, n := range []*G.Node{cfg.Bias, cfg.Lengths} {
		if n != nil {
			others = append(others, n)
		}
	}
	return f.apply("attention", kind, others...)
}
