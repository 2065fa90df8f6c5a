package layers

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/ops/op"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

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
			case !op.Same(n.Shape(), c.shape):
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
	var shape *op.ShapeError
	if !errors.As(err, &shape) {
		t.Fatalf("error %v", err)
	}
	if shape.Arg != "b" || !op.Same(shape.Got, tensor.Shape{5, 12}) || shape.Op != "Mul{}" {
		t.Errorf("%+v", shape)
	}
}
