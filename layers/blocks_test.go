package layers

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// An error of shapes names the argument, its shape and the shape that was wanted.
func TestShapeErrorsSayWhatWasWanted(t *testing.T) {
	for _, c := range []struct {
		kind kind
		in   []tensor.Shape
		want string
	}{
		{mul{}, shapes("2 3 4", "3 4"), "Mul{}: b has shape [3 4], want [2 3 4], [2 4] or [4]"},
		{mul{}, shapes("2 4", "2"), "Mul{}: b has shape [2], want [2 4] or [4]"},
		{mul{}, shapes("1 4 4", "4 1"), "Mul{}: b has shape [4 1], want [1 4 4], [1 4] or [4]"},
		{sub{}, shapes("2 3 4", "2 3"), "Sub{}: b has shape [2 3], want [2 3 4], [2 4] or [4]"},
		{sub{}, shapes("", ""), "Sub{}: x has shape [], want [B ... C]"},
		{scale{Factor: 2}, shapes(""), "Scale{factor=2}: x has shape [], want at least one dimension"},
		{rmsNorm{Heads: 1, Weight: true}, shapes("2 6", "5"), "RMSNorm{heads=1 eps=0 weight=true}: weight has shape [5], " +
			"want [6]"},
		{rmsNorm{Heads: 3, Weight: true}, shapes("2 6", "1 2"), "weight has shape [1 2], want [2]"},
		{rmsNorm{Heads: 4}, shapes("2 6"), "x has shape [2 6], want [... C] with C a multiple of 4 heads"},
		{rmsNorm{}, shapes("2 6"), "C a multiple of 0 heads"},
		{rmsNorm{Heads: 1}, shapes(""), "x has shape []"},
		{rotary{Heads: 2}, shapes("2 5 12", "4 3", "4 3"), "Rotary{heads=2 halves=false}: cos has shape [4 3], " +
			"want [5 3], or fewer columns"},
		{rotary{Heads: 2}, shapes("2 5 12", "5 4", "5 4"), "cos has shape [5 4], want [5 3], or fewer"},
		{rotary{Heads: 2}, shapes("2 5 12", "5 3", "5 2"), "sin has shape [5 2], want [5 3], like cos"},
		{rotary{Heads: 5}, shapes("2 5 12", "5 3", "5 3"), "want [B ... C] with C a multiple of 5 heads"},
		{rotary{Heads: 1}, shapes("", "5 3", "5 3"), "x has shape []"},
		{modulate{Scale: 1}, shapes("2 5 4", "2 7"), "Modulate{scale=1 shift=0 apart=false}: scale has shape [2 7], " +
			"want [2 K*4] of which part 1 is taken, K at least 2"},
		{modulate{Scale: 2}, shapes("2 5 4", "2 8"), "want [2 K*4] of which part 2 is taken, K at least 3"},
		{modulate{Shift: 2}, shapes("2 5 4", "2 8"), "shift has shape [2 8]"},
		{modulate{Apart: true}, shapes("2 5 4", "2 4", "1 4"), "shift has shape [1 4], want [2 K*4]"},
		{modulate{Scale: NoPart}, shapes("2 5 4", "2 4"), "scale has shape [2 4]"},
		{modulate{}, shapes("4", "1 4"), "x has shape [4], want [B ... C]"},
		{addGated{}, shapes("2 5 4", "2 5 8", "2 4"), "AddGated{gate=0}: y has shape [2 5 8], want [2 5 4], like x"},
		{addGated{Gate: 3}, shapes("2 5 4", "2 5 4", "2 12"), "gate has shape [2 12], want [2 K*4] of which part 3 is taken"},
		{gated{Act: SiLU}, shapes("2 4", "4 2"), "Gated{silu}: value has shape [4 2], want [2 4], like gate"},
		{gated{Act: SiLU}, shapes("", ""), "gate has shape []"},
		{gatedHalves{Act: SiLU}, shapes("2 5"), "GatedHalves{silu gateFirst=false}: x has shape [2 5], " +
			"want [... 2C]: two halves"},
		{slice{Dim: 1, From: 3, To: 6}, shapes("2 5"), "Slice{dim=1 from=3 to=6}: x has shape [2 5], " +
			"want places 3 to 5 of dimension 1, which has 5"},
		{slice{Dim: 1, From: 3, To: 3}, shapes("2 5"), "x has shape [2 5]"},
		{slice{Dim: 1, From: -1, To: 3}, shapes("2 5"), "x has shape [2 5]"},
		{slice{Dim: 2, To: 1}, shapes("2 5"), "want a dimension 2, and at most 8"},
		{slice{Dim: 0, To: 1}, shapes("1 1 1 1 1 1 1 1 1"), "want a dimension 0, and at most 8"},
		{permute{Dims: 3, Order: [8]int{0, 2, 1}}, shapes("2 5"), "Permute{order=[0 2 1]}: x has shape [2 5], " +
			"want 3 dimensions"},
		{permute{Dims: 2, Order: [8]int{1, 1}}, shapes("2 5"), "want an order of each dimension once"},
		{reshape{Dims: 2, Size: [8]int{3, 4}}, shapes("2 5"), "Reshape{shape=[3 4]}: x has shape [2 5], " +
			"want as many elements as [3 4]"},
		{reshape{Dims: 2, Size: [8]int{-2, -5}}, shapes("2 5"), "x has shape [2 5]"},
	} {
		_, err := c.kind.Infer(c.in)
		if err == nil || !errors.As(err, new(*ShapeError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v of %v: error %v, want %s", c.kind, c.in, err, c.want)
		}
	}
}

// Kernels of products have no epilogue for every function: those run by themselves.
func TestFunctionsWithoutEpilogueStayApart(t *testing.T) {
	for act, fits := range map[activation]bool{
		SiLU: true, GELU: true, QuickGELU: true, GELUTanh: false, ReLU: false, Tanh: false,
	} {
		for _, k := range []kind{linear{Bias: true}, conv{Stride: 1, Up: 1}} {
			if _, ok := (op{k}).Fuse(op{activate{Act: act}}, 0, tensor.Shape{2, 16}); ok != fits {
				t.Errorf("%v and %v are fused: %t, want %t", k, act, ok, fits)
			}
		}
	}
}

// Builders name weights as checkpoints do, and what does not fit is an error of the place.
func TestBuildersOfBlocks(t *testing.T) {
	at := func() (Scope, Flow, Declared) {
		weights := Declared{}
		s := NewScope(G.NewGraph(), "transformer", weights).Sub("layers", 3)
		return s, s.On(s.Input("x", G.Float32, 2, 5, 12)), weights
	}
	input := func(s Scope, shape ...int) Flow { return s.On(s.Input("y", G.Float32, shape...)) }
	for name, c := range map[string]struct {
		build func(s Scope, x Flow) Flow
		shape []int // of the result, or
		err   string
	}{
		"mul":      {func(s Scope, x Flow) Flow { return x.Mul(input(s, 12)) }, []int{2, 5, 12}, ""},
		"sub":      {func(s Scope, x Flow) Flow { return x.Sub(input(s, 2, 12)) }, []int{2, 5, 12}, ""},
		"halves":   {func(_ Scope, x Flow) Flow { return x.SwiGLUGateFirst() }, []int{2, 5, 6}, ""},
		"slice":    {func(_ Scope, x Flow) Flow { return x.Slice(-2, 1, 4) }, []int{2, 3, 12}, ""},
		"chunk":    {func(_ Scope, x Flow) Flow { return x.Chunk(2, 3)[2] }, []int{2, 5, 4}, ""},
		"permute":  {func(_ Scope, x Flow) Flow { return x.Permute(2, 0, 1) }, []int{12, 2, 5}, ""},
		"reshape":  {func(_ Scope, x Flow) Flow { return x.Reshape(10, -1, 3) }, []int{10, 4, 3}, ""},
		"to one":   {func(_ Scope, x Flow) Flow { return x.Reshape(-1) }, []int{120}, ""},
		"function": {func(_ Scope, x Flow) Flow { return x.ReLU().GELU().GELUTanh().Tanh() }, []int{2, 5, 12}, ""},

		"no such function": {func(_ Scope, x Flow) Flow { return x.Activation("mish") }, nil,
			`transformer.layers.3: activation "mish" is not one of gelu, gelu_accurate, gelu_fast, gelu_new, gelu_python, ` +
				`gelu_pytorch_tanh, quick_gelu, relu, silu, swish, tanh`},
		"no such gate":  {func(_ Scope, x Flow) Flow { return x.Gated("mish", x) }, nil, `activation "mish" is not one of`},
		"no node":       {func(_ Scope, x Flow) Flow { return x.Mul(Flow{}) }, nil, "layers.3.mul: an argument has no node"},
		"failed before": {func(_ Scope, x Flow) Flow { return x.AddGated(x, x.Activation("mish")) }, nil, "mish"},
		"heads":         {func(_ Scope, x Flow) Flow { return x.RMSNormHeads("norm_q", 5, 1e-6) }, nil, "3.norm_q: RMSNorm"},
		"no dimension": {func(_ Scope, x Flow) Flow { return x.Slice(-4, 0, 1) }, nil,
			"Slice{dim=-4 from=0 to=1}: x has shape [2 5 12], want a dimension -4"},
		"five parts": {func(_ Scope, x Flow) Flow { return x.Chunk(-1, 5)[4] }, nil,
			"layers.3.chunk: Chunk: x has shape [2 5 12], want a dimension -1 of a multiple of 5"},
		"no parts": {func(_ Scope, x Flow) Flow { return x.Chunk(-1, 0)[0] }, nil, "of a multiple of 0"},
		"nine dimensions": {func(_ Scope, x Flow) Flow { return x.Permute(0, 1, 2, 3, 4, 5, 6, 7, 8) }, nil,
			"and at most 8"},
		"nine numbers": {func(_ Scope, x Flow) Flow { return x.Reshape(1, 1, 1, 1, 1, 1, 1, 1, 120) }, nil,
			"at most 8 dimensions"},
		"seven of 120":      {func(_ Scope, x Flow) Flow { return x.Reshape(7, -1) }, nil, "as many elements as [7 17]"},
		"two rests":         {func(_ Scope, x Flow) Flow { return x.Reshape(-1, -1) }, nil, "as many elements as"},
		"nothing":           {func(_ Scope, x Flow) Flow { return x.Reshape(0, -1) }, nil, "as many elements as"},
		"a part that lacks": {func(s Scope, x Flow) Flow { return x.ModulateBy(input(s, 2, 24), 2, 0) }, nil, "K at least 3"},
	} {
		t.Run(name, func(t *testing.T) {
			s, x, _ := at()
			n, err := c.build(s, x).Node()
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %s", err, c.err)
				}
			case err != nil:
				t.Error(err)
			case !same(n.Shape(), c.shape):
				t.Errorf("shape %v, want %v", n.Shape(), c.shape)
			}
		})
	}

	_, x, weights := at()
	x = x.RMSNorm("attention_norm1", 1e-5).RMSNormHeads("attention.norm_q", 3, 1e-5)
	x = x.LayerNormNoWeight("norm_out", 1e-6).RMSNormNoWeight("norm", 1e-5)
	n, err := x.Node()
	if err != nil {
		t.Fatal(err)
	}
	if n.Name() != "transformer.layers.3.norm" {
		t.Errorf("the last node is %s", n.Name())
	}
	want := map[string][]int{"layers.3.attention_norm1.weight": {12}, "layers.3.attention.norm_q.weight": {4}}
	if fmt.Sprint(map[string][]int(weights)) != fmt.Sprint(want) {
		t.Errorf("weights %v, want %v", weights, want)
	}
}

// An error of a shape passes through Gorgonia and the flow with its type.
func TestShapeErrorsKeepTheirType(t *testing.T) {
	s := NewScope(G.NewGraph(), "transformer", Declared{})
	_, err := s.On(s.Input("x", G.Float32, 2, 5, 12)).Mul(s.On(s.Input("y", G.Float32, 5, 12))).Node()
	var shape *ShapeError
	if !errors.As(err, &shape) {
		t.Fatalf("error %v", err)
	}
	if shape.Arg != "b" || !same(shape.Got, tensor.Shape{5, 12}) || shape.Op != "Mul{}" {
		t.Errorf("%+v", shape)
	}
}
