package layers

import "github.com/euryale-ml/euryale/internal/ops/elem"

// Mul multiplies by another flow, element by element. A flow of fewer dimensions is a vector of channels.
//
//	x, result  [B ... C]
//	other      [B ... C], [B C] or [C]
func (f Flow) Mul(other Flow) Flow { return f.join("mul", elem.Mul{}, other) }

// Sub subtracts another flow, element by element. A flow of fewer dimensions is a vector of channels.
//
//	x, result  [B ... C]
//	other      [B ... C], [B C] or [C]
func (f Flow) Sub(other Flow) Flow { return f.join("sub", elem.Sub{}, other) }

// Scale multiplies by a constant.
//
//	x, result  [...]
func (f Flow) Scale(factor float32) Flow { return f.apply("scale", elem.Scale{Factor: factor}) }
