package layers

import "github.com/euryale-ml/euryale/internal/ops/elem"

// NoPart says of a part of a modulation that there is none.
const NoPart = elem.NoPart

// Modulate is x (1 + scale) + shift, with one scale and one shift for each image.
//
//	x, result     [B ... C]
//	scale, shift  [B C]
func (f Flow) Modulate(scale, shift Flow) Flow {
	return f.join("modulate", elem.Modulate{Apart: true}, scale, shift)
}

// ModulateBy is Modulate by parts of one tensor, which numbers from 0 choose; nothing is copied to take them out. A
// shift of NoPart adds nothing. The order of parts in diffusers differs from norm to norm: shift, scale, gate (twice) in
// AdaLayerNormZero and once in AdaLayerNormZeroSingle; scale, shift in AdaLayerNormContinuous; scale, gate (twice) in
// LuminaRMSNormZero.
//
//	x, result  [B ... C]
//	mod        [B K*C]    K parts
func (f Flow) ModulateBy(mod Flow, scale, shift int) Flow {
	return f.join("modulate", elem.Modulate{Scale: scale, Shift: shift}, mod)
}

// AddGated is x + gate*y, with one gate for each image.
//
//	x, y, result  [B ... C]
//	gate          [B C]
func (f Flow) AddGated(y, gate Flow) Flow { return f.AddGatedBy(y, gate, 0) }

// AddGatedBy is AddGated by a part of a tensor, as in ModulateBy.
//
//	x, y, result  [B ... C]
//	mod           [B K*C]    K parts
func (f Flow) AddGatedBy(y, mod Flow, gate int) Flow {
	return f.join("add_gated", elem.AddGated{Gate: gate}, y, mod)
}
