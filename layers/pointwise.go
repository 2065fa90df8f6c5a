package layers

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/ops/op"
)

// activations are the functions by the names that transformers' ACT2FN and diffusers' get_activation have for them.
var activations = map[string]op.Activation{
	"silu": op.SiLU, "swish": op.SiLU, "gelu": op.GELU, "gelu_python": op.GELU, "quick_gelu": op.QuickGELU,
	"relu": op.ReLU, "tanh": op.Tanh,
	"gelu_new": op.GELUTanh, "gelu_pytorch_tanh": op.GELUTanh, "gelu_fast": op.GELUTanh, "gelu_accurate": op.GELUTanh,
}

func activationOf(name string) (op.Activation, error) {
	act, ok := activations[name]
	if !ok {
		known := slices.Sorted(maps.Keys(activations))
		return op.None, fmt.Errorf("activation %q is not one of %s", name, strings.Join(known, ", "))
	}
	return act, nil
}
