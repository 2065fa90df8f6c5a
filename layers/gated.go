package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
)

// SwiGLU is the first half of the last dimension times the SiLU of the second, as diffusers' SwiGLU has them.
//
//	x       [... 2C]
//	result  [... C]
func (f Flow) SwiGLU() Flow { return f.apply("swiglu", elem.GatedHalves{Act: op.SiLU}) }

// SwiGLUGateFirst is the SiLU of the first half times the second, as FLUX.2 has them, and Llama's and Z-Image's w1 and
// w3 if they are one product. For two products there is Gated.
//
//	x       [... 2C]
//	result  [... C]
func (f Flow) SwiGLUGateFirst() Flow {
	return f.apply("swiglu", elem.GatedHalves{Act: op.SiLU, GateFirst: true})
}

// Gated applies the function that Activation knows by that name, and multiplies by value. "silu" of w1 x with the value
// w3 x is the SwiGLU of Llama and Z-Image, "gelu_new" of wi_0 x with wi_1 x the gate of T5.
//
//	x, value, result  [... C]
func (f Flow) Gated(name string, value Flow) Flow {
	act, err := activationOf(name)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("%s: %w", f.s.Name(), err)
	}
	return f.join("gated", elem.Gated{Act: act}, value)
}
