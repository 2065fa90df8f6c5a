package layers

import "github.com/euryale-ml/euryale/internal/ops/elem"

// Rotary turns neighbouring numbers of each head by the angles of their position, as FLUX and Z-Image do. Where cos and
// sin have fewer than D/2 columns, the rest of each head stays as it is. They are inputs or weights: kernels read them
// as float32, and what a graph computes in 16 bits would send the op to the host.
//
//	x, result  [B ... heads*D]   S positions for each image
//	cos, sin   [S D/2]
func (f Flow) Rotary(cos, sin Flow, heads int) Flow {
	return f.join("rotary", elem.Rotary{Heads: heads}, cos, sin)
}

// RotaryHalves is Rotary of pairs that have one number in each half of what is turned, as Llama and Qwen do.
//
//	x, result  [B ... heads*D]   S positions for each image
//	cos, sin   [S D/2]
func (f Flow) RotaryHalves(cos, sin Flow, heads int) Flow {
	return f.join("rotary", elem.Rotary{Heads: heads, Halves: true}, cos, sin)
}
