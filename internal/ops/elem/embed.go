package elem

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Embed looks tokens up and adds their positions' vectors.
//
//	ids      [B S]          int32, below V
//	tokens   [V C]
//	position [S' C]         S <= S'
//	result   [B S C]
type Embed struct{ op.Plain }

func (k Embed) String() string { return "Embed{}" }
func (k Embed) Arity() int     { return 3 }
func (k Embed) Rank() int      { return 3 }

func (k Embed) Layout(i int) program.Layout {
	if i > 0 {
		return program.Table
	}
	return program.Plain
}

func (k Embed) Infer(in []tensor.Shape) (tensor.Shape, error) {
	ids, tok, pos := in[0], in[1], in[2]
	if len(ids) != 2 || len(tok) != 2 || len(pos) != 2 || tok[1] != pos[1] || ids[1] > pos[0] {
		return nil, op.BadShapes(k, in)
	}
	return tensor.Shape{ids[0], ids[1], tok[1]}, nil
}

// Below: a token is a row of the table.
func (k Embed) Below(i int, in []tensor.Shape) int {
	if i == 0 {
		return in[1][0]
	}
	return 0
}

func (k Embed) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	s, c := shape[1], shape[2]
	size := in[1].DType.Size() * c
	at := make([]float32, c)
	for r, id := range in[0].I32() {
		row := out[r*c:][:c]
		dtype.ToF32(row, in[1].Data[int(id)*size:], in[1].DType)
		dtype.ToF32(at, in[2].Data[r%s*in[2].DType.Size()*c:], in[2].DType)
		for j, v := range at {
			row[j] += v
		}
	}
}

func (k Embed) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

func (k Embed) DeviceLayout(i int) program.Layout {
	if i > 0 {
		return program.Rows
	}
	return program.Plain
}

func (k Embed) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return op.Elementwise("embed", out, in, nil)
}

// Pick takes one position of each sequence.
//
//	x      [B S C]
//	index  [B]       int32
//	result [B C]
type Pick struct{ op.Plain }

func (k Pick) String() string { return "Pick{}" }
func (k Pick) Arity() int     { return 2 }
func (k Pick) Rank() int      { return 2 }

func (k Pick) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) != 3 || !in[1].Eq(tensor.Shape{x[0]}) {
		return nil, op.BadShapes(k, in)
	}
	return tensor.Shape{x[0], x[2]}, nil
}

// Below: an index is a position of its sequence.
func (k Pick) Below(i int, in []tensor.Shape) int {
	if i == 1 {
		return in[0][1]
	}
	return 0
}

func (k Pick) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	c, s := shape[1], in[0].Shape[1]
	for b, i := range in[1].I32() {
		copy(out[b*c:][:c], in[0].F32()[b*s*c:][:s*c][int(i)*c:])
	}
}

func (k Pick) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

func (k Pick) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return op.Elementwise("pick", out, in, func(p *op.ElementwiseParams) { p.Other = int32(in[0].Shape[1]) })
}

// Timesteps is the sinusoidal embedding of diffusers' get_timestep_embedding (Ho et al. 2020): half the
// width sines, half cosines, of t times a geometric series of frequencies from 1 to 1/10000.
//
//	t      [B N]
//	result [B N*Dim]
type Timesteps struct {
	op.Plain
	Dim   int
	Flip  bool // flip_sin_to_cos: cosines first
	Shift float32
}

func (k Timesteps) String() string {
	return fmt.Sprintf("Timesteps{dim=%d flip=%t shift=%g}", k.Dim, k.Flip, k.Shift)
}
func (k Timesteps) Arity() int { return 1 }

func (k Timesteps) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) != 2 || k.Dim < 2 || k.Dim%2 != 0 {
		return nil, op.BadShapes(k, in)
	}
	return tensor.Shape{in[0][0], in[0][1] * k.Dim}, nil
}

func (k Timesteps) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	half := k.Dim / 2
	sin, cos := 0, half
	if k.Flip {
		sin, cos = half, 0
	}
	// The exponent and the product are rounded to float32 as torch does: at t near 1000 a rounding of the
	// frequency is visible in the sine.
	scale := float32(-math.Log(10000))
	for i, t := range in[0].F32() {
		for j := range half {
			freq := float32(math.Exp(float64(scale * float32(j) / (float32(half) - k.Shift))))
			s, c := math.Sincos(float64(t * freq))
			out[i*k.Dim+sin+j] = float32(s)
			out[i*k.Dim+cos+j] = float32(c)
		}
	}
}

func (k Timesteps) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

// Float: numbers near 1000 lose too much in 16 bits.
func (k Timesteps) Float(i int) bool { return i == 0 }

func (k Timesteps) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return op.Elementwise("timesteps", out, in, func(p *op.ElementwiseParams) {
		p.Channels, p.Flip, p.Shift = int32(k.Dim), int32(op.Count(k.Flip)), k.Shift
	})
}
