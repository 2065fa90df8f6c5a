package ops

import (
	"errors"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"gorgonia.org/tensor"
)

// An error of shapes names the argument, its shape and the shape that was wanted.
func TestShapeErrorsSayWhatWasWanted(t *testing.T) {
	for _, c := range []struct {
		kind op.Kind
		in   []tensor.Shape
		want string
	}{
		{elem.Mul{}, shapes("2 3 4", "3 4"), "Mul{}: b has shape [3 4], want [2 3 4], [2 4] or [4]"},
		{elem.Mul{}, shapes("2 4", "2"), "Mul{}: b has shape [2], want [2 4] or [4]"},
		{elem.Mul{}, shapes("1 4 4", "4 1"), "Mul{}: b has shape [4 1], want [1 4 4], [1 4] or [4]"},
		{elem.Sub{}, shapes("2 3 4", "2 3"), "Sub{}: b has shape [2 3], want [2 3 4], [2 4] or [4]"},
		{elem.Sub{}, shapes("", ""), "Sub{}: x has shape [], want [B ... C]"},
		{elem.Scale{Factor: 2}, shapes(""), "Scale{factor=2}: x has shape [], want at least one dimension"},
		{RMSNorm{Heads: 1, Weight: true}, shapes("2 6", "5"), "RMSNorm{heads=1 eps=0 weight=true}: weight has shape [5], " +
			"want [6]"},
		{RMSNorm{Heads: 3, Weight: true}, shapes("2 6", "1 2"), "weight has shape [1 2], want [2]"},
		{RMSNorm{Heads: 4}, shapes("2 6"), "x has shape [2 6], want [... C] with C a multiple of 4 heads"},
		{RMSNorm{}, shapes("2 6"), "C a multiple of 0 heads"},
		{RMSNorm{Heads: 1}, shapes(""), "x has shape []"},
		{elem.Rotary{Heads: 2}, shapes("2 5 12", "4 3", "4 3"), "Rotary{heads=2 halves=false}: cos has shape [4 3], " +
			"want [5 3], or fewer columns"},
		{elem.Rotary{Heads: 2}, shapes("2 5 12", "5 4", "5 4"), "cos has shape [5 4], want [5 3], or fewer"},
		{elem.Rotary{Heads: 2}, shapes("2 5 12", "5 3", "5 2"), "sin has shape [5 2], want [5 3], like cos"},
		{elem.Rotary{Heads: 5}, shapes("2 5 12", "5 3", "5 3"), "want [B ... C] with C a multiple of 5 heads"},
		{elem.Rotary{Heads: 1}, shapes("", "5 3", "5 3"), "x has shape []"},
		{elem.Modulate{Scale: 1}, shapes("2 5 4", "2 7"), "Modulate{scale=1 shift=0 apart=false}: scale has shape [2 7], " +
			"want [2 K*4] of which part 1 is taken, K at least 2"},
		{elem.Modulate{Scale: 2}, shapes("2 5 4", "2 8"), "want [2 K*4] of which part 2 is taken, K at least 3"},
		{elem.Modulate{Shift: 2}, shapes("2 5 4", "2 8"), "shift has shape [2 8]"},
		{elem.Modulate{Apart: true}, shapes("2 5 4", "2 4", "1 4"), "shift has shape [1 4], want [2 K*4]"},
		{elem.Modulate{Scale: elem.NoPart}, shapes("2 5 4", "2 4"), "scale has shape [2 4]"},
		{elem.Modulate{}, shapes("4", "1 4"), "x has shape [4], want [B ... C]"},
		{elem.AddGated{}, shapes("2 5 4", "2 5 8", "2 4"), "AddGated{gate=0}: y has shape [2 5 8], want [2 5 4], like x"},
		{elem.AddGated{Gate: 3}, shapes("2 5 4", "2 5 4", "2 12"),
			"gate has shape [2 12], want [2 K*4] of which part 3 is taken"},
		{elem.Gated{Act: op.SiLU}, shapes("2 4", "4 2"), "Gated{silu}: value has shape [4 2], want [2 4], like gate"},
		{elem.Gated{Act: op.SiLU}, shapes("", ""), "gate has shape []"},
		{elem.GatedHalves{Act: op.SiLU}, shapes("2 5"), "GatedHalves{silu gateFirst=false}: x has shape [2 5], " +
			"want [... 2C]: two halves"},
		{elem.Slice{Dim: 1, From: 3, To: 6}, shapes("2 5"), "Slice{dim=1 from=3 to=6}: x has shape [2 5], " +
			"want places 3 to 5 of dimension 1, which has 5"},
		{elem.Slice{Dim: 1, From: 3, To: 3}, shapes("2 5"), "x has shape [2 5]"},
		{elem.Slice{Dim: 1, From: -1, To: 3}, shapes("2 5"), "x has shape [2 5]"},
		{elem.Slice{Dim: 2, To: 1}, shapes("2 5"), "want a dimension 2, and at most 8"},
		{elem.Slice{Dim: 0, To: 1}, shapes("1 1 1 1 1 1 1 1 1"), "want a dimension 0, and at most 8"},
		{elem.Permute{Dims: 3, Order: [8]int{0, 2, 1}}, shapes("2 5"), "Permute{order=[0 2 1]}: x has shape [2 5], " +
			"want 3 dimensions"},
		{elem.Permute{Dims: 2, Order: [8]int{1, 1}}, shapes("2 5"), "want an order of each dimension once"},
		{elem.Reshape{Dims: 2, Size: [8]int{3, 4}}, shapes("2 5"), "Reshape{shape=[3 4]}: x has shape [2 5], " +
			"want as many elements as [3 4]"},
		{elem.Reshape{Dims: 2, Size: [8]int{-2, -5}}, shapes("2 5"), "x has shape [2 5]"},
	} {
		_, err := c.kind.Infer(c.in)
		if err == nil || !errors.As(err, new(*op.ShapeError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v of %v: error %v, want %s", c.kind, c.in, err, c.want)
		}
	}
}

// Kernels of products have no epilogue for every function: those run by themselves.
func TestFunctionsWithoutEpilogueStayApart(t *testing.T) {
	for act, fits := range map[op.Activation]bool{
		op.SiLU: true, op.GELU: true, op.QuickGELU: true, op.GELUTanh: false, op.ReLU: false, op.Tanh: false,
	} {
		for _, k := range []op.Kind{Linear{Bias: true}, Conv{Stride: 1, Up: 1}} {
			if _, ok := (op.Op{Kind: k}).Fuse(op.Op{Kind: elem.Activate{Act: act}}, 0, tensor.Shape{2, 16}); ok != fits {
				t.Errorf("%v and %v are fused: %t, want %t", k, act, ok, fits)
			}
		}
	}
}
