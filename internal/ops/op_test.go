package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/sched"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// opCases are the ops with argument shapes; the name says what the case is about. An argument whose name is
// "ids" is int32.
var opCases = []struct {
	name string
	kind op.Kind
	in   []tensor.Shape
	ids  int // exclusive bound of int32 argument values; 0: none
}{
	{"linear", Linear{}, shapes("5 7", "9 7"), 0},
	{"linear of one row", Linear{Bias: true}, shapes("1 33", "17 33", "17"), 0},
	{"linear with everything", Linear{Bias: true, Residual: true, Act: op.QuickGELU},
		shapes("2 3 64", "48 64", "48", "2 3 48"), 0},
	{"linear with a gate", Linear{Bias: true, Act: op.GEGLU}, shapes("2 11 16", "64 16", "64"), 0},
	{"conv 1x1", Conv{Stride: 1, Up: 1}, shapes("1 3 5 8", "6 8 1 1", "6"), 0},
	{"conv 3x3 keeps the size", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("2 7 5 4", "16 4 3 3", "16"), 0},
	{"conv with everything",
		Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}, Channels: true, Residual: true, Act: op.SiLU},
		shapes("2 4 6 20", "24 20 3 3", "24", "2 24", "2 4 6 24"), 0},
	{"conv of stride 2", Conv{Stride: 2, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("1 9 6 4", "5 4 3 3", "5"), 0},
	{"conv padded at the end only", Conv{Stride: 2, Up: 1, Pad: Padding{0, 0, 1, 1}},
		shapes("1 8 6 4", "5 4 3 3", "5"), 0},
	{"conv of an enlarged image", Conv{Stride: 1, Up: 2, Pad: Padding{1, 1, 1, 1}}, shapes("1 3 4 8", "8 8 3 3", "8"), 0},
	{"group norm", GroupNorm{Groups: 4, Eps: 1e-5}, shapes("2 3 5 24", "24", "24"), 0},
	{"group norm, then silu", GroupNorm{Groups: 32, Eps: 1e-6, SiLU: true}, shapes("1 9 64", "64", "64"), 0},
	{"layer norm", LayerNorm{Eps: 1e-5}, shapes("2 3 50", "50", "50"), 0},
	{"attention", Attention{Heads: 2}, shapes("2 9 16", "2 5 16", "2 5 16"), 0},
	{"attention of an image", Attention{Heads: 1}, shapes("1 4 5 24", "1 4 5 24", "1 4 5 24"), 0},
	{"causal attention", Attention{Heads: 3, Causal: true}, shapes("2 7 24", "2 7 24", "2 7 24"), 0},
	{"silu", elem.Activate{Act: op.SiLU}, shapes("3 37"), 0},
	{"gelu", elem.Activate{Act: op.GELU}, shapes("3 37"), 0},
	{"quick gelu", elem.Activate{Act: op.QuickGELU}, shapes("3 37"), 0},
	{"geglu", elem.Activate{Act: op.GEGLU}, shapes("3 38"), 0},
	{"add", elem.Add{}, shapes("4 19", "4 19"), 0},
	{"add channels", elem.AddChannels{}, shapes("2 3 4 10", "2 10"), 0},
	{"concat", elem.Concat{}, shapes("2 3 4 10", "2 3 4 6"), 0},

	// What the blocks of transformers add.
	{"gelu by tanh", elem.Activate{Act: op.GELUTanh}, shapes("3 37"), 0},
	{"relu", elem.Activate{Act: op.ReLU}, shapes("3 40"), 0},
	{"tanh", elem.Activate{Act: op.Tanh}, shapes("3 37"), 0},
	{"mul", elem.Mul{}, shapes("4 19", "4 19"), 0},
	{"mul by a vector for each image", elem.Mul{}, shapes("2 3 4 16", "2 16"), 0},
	{"mul by a vector for all", elem.Mul{}, shapes("3 2 10", "10"), 0},
	{"sub", elem.Sub{}, shapes("4 16", "4 16"), 0},
	{"sub of a vector for each image", elem.Sub{}, shapes("2 5 10", "2 10"), 0},
	{"sub of a vector for all", elem.Sub{}, shapes("3 16", "16"), 0},
	{"scale", elem.Scale{Factor: 0.3}, shapes("3 4 5"), 0},
	{"scale of a vector", elem.Scale{Factor: -2}, shapes("16"), 0},
	{"layer norm without weights", LayerNorm{Eps: 1e-6, Bare: true}, shapes("2 3 64"), 0},
	{"rms norm", RMSNorm{Heads: 1, Eps: 1e-6, Weight: true}, shapes("2 3 50", "50"), 0},
	{"rms norm without a weight", RMSNorm{Heads: 1, Eps: 1e-5}, shapes("2 3 64"), 0},
	{"rms norm of heads", RMSNorm{Heads: 6, Eps: 1e-6, Weight: true}, shapes("2 3 96", "16"), 0},
	{"rms norm of one channel", RMSNorm{Heads: 5, Eps: 0.5, Weight: true}, shapes("3 5", "1"), 0},
	{"rotary", elem.Rotary{Heads: 3}, shapes("2 5 48", "5 8", "5 8"), 0},
	{"rotary of halves", elem.Rotary{Heads: 3, Halves: true}, shapes("2 5 48", "5 8", "5 8"), 0},
	{"rotary of an image", elem.Rotary{Heads: 2}, shapes("2 3 4 12", "12 3", "12 3"), 0},
	{"rotary of a part of each head", elem.Rotary{Heads: 2}, shapes("2 5 22", "5 3", "5 3"), 0},
	{"rotary of halves of a part of each head", elem.Rotary{Heads: 2, Halves: true}, shapes("2 5 64", "5 8", "5 8"), 0},
	{"modulate", elem.Modulate{Apart: true}, shapes("2 3 4 16", "2 16", "2 16"), 0},
	{"modulate by parts, the shift first", elem.Modulate{Scale: 1}, shapes("2 5 10", "2 50"), 0},
	{"modulate by parts of two tensors", elem.Modulate{Scale: 2, Shift: 1, Apart: true},
		shapes("3 2 16", "3 48", "3 32"), 0},
	{"modulate without a shift", elem.Modulate{Scale: 2, Shift: elem.NoPart}, shapes("2 5 16", "2 64"), 0},
	{"add gated", elem.AddGated{}, shapes("2 5 16", "2 5 16", "2 16"), 0},
	{"add gated by a part", elem.AddGated{Gate: 5}, shapes("2 3 2 10", "2 3 2 10", "2 60"), 0},
	{"gated by silu", elem.Gated{Act: op.SiLU}, shapes("2 5 16", "2 5 16"), 0},
	{"gated by gelu", elem.Gated{Act: op.GELU}, shapes("2 5 7", "2 5 7"), 0},
	{"gated by gelu by tanh", elem.Gated{Act: op.GELUTanh}, shapes("2 5 7", "2 5 7"), 0},
	{"swiglu", elem.GatedHalves{Act: op.SiLU}, shapes("3 2 38"), 0},
	{"swiglu, the gate first", elem.GatedHalves{Act: op.SiLU, GateFirst: true}, shapes("3 2 48"), 0},
	{"slice of the first dimension", elem.Slice{Dim: 0, From: 1, To: 3}, shapes("4 3 5"), 0},
	{"slice of the middle", elem.Slice{Dim: 1, From: 2, To: 6}, shapes("2 7 3 16"), 0},
	{"slice of the last dimension", elem.Slice{Dim: 2, From: 16, To: 48}, shapes("2 3 64"), 0},
	{"slice of one place", elem.Slice{Dim: 1, From: 4, To: 5}, shapes("3 5"), 0},
	{"slice at an odd place", elem.Slice{Dim: 1, From: 3, To: 19}, shapes("3 64"), 0},
	{"permute to channels first", elem.Permute{Dims: 4, Order: [8]int{0, 3, 1, 2}}, shapes("2 3 4 5"), 0},
	{"permute of heads", elem.Permute{Dims: 4, Order: [8]int{0, 2, 1, 3}}, shapes("2 3 4 16"), 0},
	{"permute of patches", elem.Permute{Dims: 6, Order: [8]int{0, 1, 3, 2, 4, 5}}, shapes("1 3 2 4 2 8"), 0},
	{"permute of eight dimensions", elem.Permute{Dims: 8, Order: [8]int{7, 0, 6, 1, 5, 2, 4, 3}},
		shapes("2 3 1 2 2 3 1 2"), 0},
	{"permute of ones", elem.Permute{Dims: 3, Order: [8]int{2, 1, 0}}, shapes("1 1 1"), 0},
	{"reshape", elem.Reshape{Dims: 4, Size: [8]int{2, 3, 2, 5}}, shapes("2 3 10"), 0},

	{"upsample", Upsample{}, shapes("2 3 4 10"), 0},
	{"upsample to odd sizes", Upsample{OddHeight: true, OddWidth: true}, shapes("1 3 4 10"), 0},
	{"embed", elem.Embed{}, shapes("2 5", "11 6", "8 6"), 11},
	{"pick", elem.Pick{}, shapes("3 5 6", "3"), 5},
	{"timesteps", elem.Timesteps{Dim: 32, Flip: true}, shapes("3 1"), 0},
	{"scale model input", ScaleModelInput{N: 2, B: 4}, shapes("6 3 4 5", "61"), 0},
	{"guidance rescaled", GuidanceSpread{}, shapes("4 7 9 5", "61"), 0},
	{"scheduler step", SchedulerStep{N: 2}, shapes("4 3 4 5", "2 3 4 5", "61"), 0},
	{"scheduler step with guidance and noise, all samples", SchedulerStep{N: 2, Guided: true, Noisy: true},
		shapes("12 3 4 5", "4 3 4 5", "61", "2", "2 3 4 5"), 0},
	{"not finite", NonFinite{}, shapes("2 3 4 5", "8 4 4 5"), 0},
	{"timesteps of six numbers", elem.Timesteps{Dim: 8, Shift: 1}, shapes("2 6"), 0},

	{"attention of shared heads", Attention{Heads: 6, KVHeads: 2}, shapes("2 9 48", "2 5 16", "2 5 16"), 0},
	{"attention of one head of keys", Attention{Heads: 4, KVHeads: 1, Causal: true},
		shapes("2 9 32", "2 9 8", "2 9 8"), 0},
	{"attention of a scale", Attention{Heads: 2, Scale: 1}, shapes("1 4 16", "1 5 16", "1 5 16"), 0},
	{"attention with a bias of positions", Attention{Heads: 2, Bias: true, Scale: 1},
		shapes("2 7 16", "2 7 16", "2 7 16", "2 7 7"), 0},
	{"attention with a bias of everything", Attention{Heads: 2, Bias: true},
		shapes("2 7 16", "2 19 16", "2 19 16", "2 2 7 19"), 0},
	{"attention with a mask of keys", Attention{Heads: 2, KVHeads: 1, Bias: true},
		shapes("3 7 16", "3 20 8", "3 20 8", "3 1 1 20"), 0},
	{"causal attention with a mask", Attention{Heads: 2, Causal: true, Bias: true},
		shapes("2 8 16", "2 8 16", "2 8 16", "1 1 8 8"), 0},
	{"attention with lengths", Attention{Heads: 2, Lengths: true}, shapes("5 3 16", "5 4 16", "5 4 16", "5"), 5},
	{"attention with everything", Attention{Heads: 4, KVHeads: 2, Scale: 0.3, Causal: true, Bias: true, Lengths: true},
		shapes("3 21 32", "3 21 16", "3 21 16", "4 21 21", "3"), 22},
	{"conv of unequal strides", convOf(Window{Kernel: HW{3, 2}, Stride: HW{1, 2}, Pad: Padding{1, 0, 1, 1}}, 1),
		shapes("2 7 6 5", "18 5 3 2", "18"), 0},
	{"conv with a dilation", convOf(Window{Kernel: Square(3), Dilation: HW{2, 3}, Pad: Padding{2, 3, 2, 3}}, 1),
		shapes("1 8 7 20", "6 20 3 3", "6"), 0},
	{"conv of wide channels with a dilation", convOf(Window{Kernel: Square(2), Dilation: Square(2)}, 1),
		shapes("1 4 5 400", "6 400 2 2", "6"), 0},
	{"conv of groups of whole panels", convOf(Window{Kernel: Square(3), Pad: Padding{1, 1, 1, 1}}, 2),
		shapes("2 5 4 8", "32 4 3 3", "32"), 0},
	{"conv of groups within a panel", convOf(Window{Kernel: Square(3), Stride: Square(2)}, 5),
		shapes("1 7 9 15", "30 3 3 3", "30"), 0},
	{"conv of groups wider than a block", convOf(Window{Kernel: Square(1)}, 2),
		shapes("1 2 3 900", "10 450 1 1", "10"), 0},
	{"conv of two filters per channel", convOf(Window{Kernel: Square(2)}, 6), shapes("1 4 4 6", "12 1 2 2", "12"), 0},
	{"depthwise conv", convOf(Window{Kernel: HW{5, 3}, Pad: Padding{2, 1, 2, 1}}, 37),
		shapes("2 6 7 37", "37 1 5 3", "37"), 0},
	{"depthwise conv without bias", ConvWindow{Window: unit(Window{Kernel: Square(3), Stride: Square(2)}), Groups: 16},
		shapes("1 9 9 16", "16 1 3 3"), 0},
	{"conv of a sequence", convOf(Window{Kernel: HW{1, 5}, Stride: Square(2), Pad: Padding{Left: 3, Right: 1}}, 1),
		shapes("2 13 6", "9 6 5", "9"), 0},
	{"conv of a sequence without bias", ConvWindow{Window: unit(Window{Kernel: HW{1, 1}}), Groups: 1},
		shapes("2 5 8", "9 8 1"), 0},
	{"conv of a sequence with everything", convOf(Window{Kernel: HW{1, 3}, Dilation: HW{1, 4}, Pad: Padding{Left: 8}}, 3),
		shapes("2 13 6", "9 2 3", "9"), 0},
	{"max pool", Pool{Window: unit(Window{Kernel: Square(3), Stride: Square(2), Pad: Padding{1, 1, 1, 1}})},
		shapes("2 7 6 5"), 0},
	{"max pool with a dilation",
		Pool{Window: unit(Window{Kernel: Square(2), Dilation: Square(3), Pad: Padding{1, 1, 1, 1}})},
		shapes("1 5 6 20"), 0},
	{"max pool of a sequence", Pool{Window: unit(Window{Kernel: HW{1, 2}, Stride: HW{1, 2}})}, shapes("3 7 4"), 0},
	{"average pool counts padding",
		Pool{Average: true, Window: unit(Window{Kernel: HW{2, 3}, Stride: HW{2, 1}, Pad: Padding{1, 1, 0, 1}})},
		shapes("2 7 6 5"), 0},
	{"average pool of a sequence", Pool{Average: true, Window: unit(Window{Kernel: HW{1, 4}, Pad: Padding{Left: 2}})},
		shapes("2 9 33"), 0},
	{"adaptive average", AdaptiveAverage{H: 3, W: 4}, shapes("2 7 6 5"), 0},
	{"adaptive average to more parts than pixels", AdaptiveAverage{H: 5, W: 1}, shapes("1 3 6 5"), 0},
	{"global average", AdaptiveAverage{H: 1, W: 1}, shapes("2 9 11 70"), 0},
	{"adaptive average of a sequence", AdaptiveAverage{H: 1, W: 3}, shapes("2 10 7"), 0},
}

// unit fills in strides and dilations of 1.
func unit(w Window) Window {
	w.Stride, w.Dilation = or(w.Stride, Square(1)), or(w.Dilation, Square(1))
	return w
}

// or is n, or other if n is not given.
func or(n, other HW) HW {
	if n == (HW{}) {
		return other
	}
	return n
}

func convOf(w Window, groups int) ConvWindow {
	return ConvWindow{Window: unit(w), Groups: groups, Bias: true}
}

// shapes reads "2 3 4" as a shape.
func shapes(list ...string) (out []tensor.Shape) {
	for _, s := range list {
		var dims tensor.Shape
		for _, f := range strings.Fields(s) {
			d, err := strconv.Atoi(f)
			if err != nil {
				panic(err)
			}
			dims = append(dims, d)
		}
		out = append(out, dims)
	}
	return out
}

// arguments makes seeded values for the shapes.
func arguments(in []tensor.Shape, k op.Kind, ids int) []G.Value {
	rng := rand.New(rand.NewPCG(1, 2))
	var vals []G.Value
	for i, s := range in {
		a, isAttention := k.(Attention)
		if ids > 0 && k.Below(i, in) > 0 {
			d := make([]int32, s.TotalSize())
			for j := range d {
				d[j] = rng.Int32N(int32(ids))
			}
			if isAttention {
				d[0] = 0 // an image without keys
			}
			vals = append(vals, tensor.New(tensor.WithShape(s...), tensor.WithBacking(d)))
			continue
		}
		d := make([]float32, s.TotalSize())
		for j := range d {
			d[j] = float32(rng.NormFloat64())
		}
		switch {
		case isAttention && a.Bias && i == a.biasAt():
			hide(d, op.Last(s))
		case k == op.Kind(NonFinite{}) && i == 1:
			d[len(d)-1] = float32(math.Inf(1))
		case s.Eq(tensor.Shape{sched.StepSize}):
			d[sched.AtClip] = 1.5
		}
		vals = append(vals, tensor.New(tensor.WithShape(s...), tensor.WithBacking(d)))
	}
	return vals
}

// hide masks numbers of a bias: a fifth of all, the first row as a whole, and the last one by the lowest number, which
// hides none of its keys, as all are alike.
func hide(bias []float32, row int) {
	for i := range bias {
		if i%5 == 0 || i < row {
			bias[i] = float32(math.Inf(-1))
		}
	}
	for i := range bias[len(bias)-row:] {
		bias[len(bias)-row+i] = -math.MaxFloat32
	}
}

// The host form of every op gives what its definition gives, with weights packed in each stored type.
func TestHostFormsAgreeWithDefinitions(t *testing.T) {
	pool := cpu.NewPool(2)
	defer pool.Close()
	for _, c := range opCases {
		t.Run(c.name, func(t *testing.T) {
			vals := arguments(c.in, c.kind, c.ids)
			for _, stored := range []dtype.Type{dtype.F32, dtype.F16} {
				in := make([]program.Arg, len(vals))
				for i, v := range vals {
					in[i] = hostArg(v, c.kind.Layout(i), stored)
				}
				want, err := op.Op{Kind: c.kind}.Do(vals...)
				if err != nil {
					t.Fatal(err)
				}
				shape := want.Shape()
				out := program.Arg{Shape: shape, DType: dtype.F32, Data: program.Bytes(nans(shape.TotalSize()))}
				c.kind.Host(pool, out, in)
				if d := relL2(out.F32(), want.Data().([]float32)); !(d <= 2e-6) {
					t.Errorf("stored %v: host form and definition differ by %g", stored, d)
				}
			}
		})
	}
}

// A result that takes over an argument's memory is the same to the bit.
func TestHostFormsInPlace(t *testing.T) {
	pool := cpu.NewPool(2)
	defer pool.Close()
	for _, c := range opCases {
		for _, place := range c.kind.InPlace() {
			t.Run(fmt.Sprintf("%s/%d", c.name, place), func(t *testing.T) {
				vals := arguments(c.in, c.kind, c.ids)
				shape, err := c.kind.Infer(c.in)
				if err != nil {
					t.Fatal(err)
				}
				if shape.TotalSize() != c.in[place].TotalSize() {
					return // is not taken over
				}
				run := func(place int) []float32 {
					in := make([]program.Arg, len(vals))
					for i, v := range vals {
						in[i] = hostArg(v, c.kind.Layout(i), dtype.F32)
					}
					out := program.Arg{Shape: shape, DType: dtype.F32, Data: program.Bytes(nans(shape.TotalSize()))}
					if place >= 0 {
						out.Data = in[place].Data
					}
					c.kind.Host(pool, out, in)
					return out.F32()
				}
				if d := relL2(run(place), run(-1)); d != 0 {
					t.Errorf("in the place of argument %d the result differs by %g", place, d)
				}
			})
		}
	}
}

// hostArg lays a value out for a host form. Packed values are rounded to the stored type first, in place, so
// that the definition sees the same numbers.
func hostArg(v G.Value, l program.Layout, stored dtype.Type) program.Arg {
	a := program.Arg{Shape: v.Shape(), DType: dtype.F32}
	if ids, ok := v.Data().([]int32); ok {
		return program.Arg{Shape: v.Shape(), DType: dtype.I32, Data: program.Bytes(ids)}
	}
	data := v.Data().([]float32)
	raw := program.Bytes(data)
	if l != program.Plain && stored == dtype.F16 {
		raw = make([]byte, 2*len(data))
		for i, x := range data {
			h := dtype.F32ToF16(x)
			raw[2*i], raw[2*i+1] = byte(h), byte(h>>8)
			data[i] = dtype.F16ToF32(h)
		}
	} else {
		stored = dtype.F32
	}
	a.Data = make([]byte, program.Packed(l, v.Shape(), stored))
	a.DType = program.Pack(a.Data, raw, l, v.Shape(), stored)
	return a
}

// Gorgonia merges nodes whose ops hash alike, so ops that differ in any field must not.
func TestHashesCoverEveryField(t *testing.T) {
	distinct := []op.Kind{
		elem.Activate{Act: op.GELUTanh}, elem.Activate{Act: op.ReLU}, elem.Activate{Act: op.Tanh}, elem.Mul{}, elem.Sub{},
		elem.Scale{Factor: 1}, elem.Scale{Factor: 2},
		RMSNorm{Heads: 1, Eps: 1e-5}, RMSNorm{Heads: 2, Eps: 1e-5}, RMSNorm{Heads: 1, Eps: 1e-6},
		RMSNorm{Heads: 1, Eps: 1e-5, Weight: true}, elem.Rotary{Heads: 1}, elem.Rotary{Heads: 2},
		elem.Rotary{Heads: 1, Halves: true},
		elem.Modulate{}, elem.Modulate{Scale: 1}, elem.Modulate{Shift: 1}, elem.Modulate{Apart: true}, elem.AddGated{},
		elem.AddGated{Gate: 1},
		elem.Gated{Act: op.SiLU}, elem.Gated{Act: op.GELU}, elem.GatedHalves{Act: op.SiLU}, elem.GatedHalves{Act: op.GELU},
		elem.GatedHalves{Act: op.SiLU, GateFirst: true},
		elem.Slice{To: 1}, elem.Slice{To: 2}, elem.Slice{From: 1, To: 2}, elem.Slice{Dim: 1, To: 1},
		elem.Permute{Dims: 2, Order: [8]int{1, 0}}, elem.Permute{Dims: 3, Order: [8]int{1, 0, 2}},
		elem.Permute{Dims: 3, Order: [8]int{1, 2, 0}},
		elem.Reshape{Dims: 1, Size: [8]int{6}}, elem.Reshape{Dims: 2, Size: [8]int{6, 1}},
		elem.Reshape{Dims: 2, Size: [8]int{1, 6}},
		Linear{}, Linear{Bias: true}, Linear{Residual: true}, Linear{Act: op.SiLU}, Linear{Act: op.GELU},
		Conv{Stride: 1, Up: 1}, Conv{Stride: 2, Up: 1}, Conv{Stride: 1, Up: 2},
		Conv{Stride: 1, Up: 1, Pad: Padding{Top: 1}}, Conv{Stride: 1, Up: 1, Pad: Padding{Left: 1}},
		Conv{Stride: 1, Up: 1, Pad: Padding{Bottom: 1}}, Conv{Stride: 1, Up: 1, Pad: Padding{Right: 1}},
		Conv{Stride: 1, Up: 1, Channels: true}, Conv{Stride: 1, Up: 1, Residual: true}, Conv{Stride: 1, Up: 1, Act: op.SiLU},
		GroupNorm{Groups: 1, Eps: 1e-5}, GroupNorm{Groups: 2, Eps: 1e-5}, GroupNorm{Groups: 1, Eps: 1e-6},
		GroupNorm{Groups: 1, Eps: 1e-5, SiLU: true}, LayerNorm{Eps: 1e-5}, LayerNorm{Eps: 1e-6},
		LayerNorm{Eps: 1e-5, Bare: true},
		Attention{Heads: 1}, Attention{Heads: 2}, Attention{Heads: 1, Causal: true},
		elem.Activate{Act: op.SiLU}, elem.Activate{Act: op.GELU}, elem.Activate{Act: op.QuickGELU},
		elem.Activate{Act: op.GEGLU},
		elem.Add{}, elem.AddChannels{}, elem.Concat{}, Upsample{}, Upsample{OddHeight: true}, Upsample{OddWidth: true},
		elem.Embed{}, elem.Pick{},
		elem.Timesteps{Dim: 2}, elem.Timesteps{Dim: 4}, elem.Timesteps{Dim: 2, Flip: true}, elem.Timesteps{Dim: 2, Shift: 1},
		Attention{Heads: 2, KVHeads: 1}, Attention{Heads: 2, Scale: 1}, Attention{Heads: 2, Bias: true},
		Attention{Heads: 2, Lengths: true},
		Pool{}, Pool{Average: true}, AdaptiveAverage{}, AdaptiveAverage{H: 1}, AdaptiveAverage{W: 1},
		ConvWindow{}, ConvWindow{Groups: 1}, ConvWindow{Bias: true},
	}
	for _, w := range []Window{
		{Kernel: HW{H: 1}}, {Kernel: HW{W: 1}}, {Stride: HW{H: 1}}, {Stride: HW{W: 1}},
		{Dilation: HW{H: 1}}, {Dilation: HW{W: 1}},
		{Pad: Padding{Top: 1}}, {Pad: Padding{Left: 1}}, {Pad: Padding{Bottom: 1}}, {Pad: Padding{Right: 1}},
	} {
		distinct = append(distinct, Pool{Window: w}, ConvWindow{Window: w})
	}
	seen := map[uint32]op.Kind{}
	for _, k := range distinct {
		h := op.Op{Kind: k}.Hashcode()
		if other, ok := seen[h]; ok {
			t.Errorf("%v and %v hash alike", k, other)
		}
		seen[h] = k
	}
}

func TestShapesThatDoNotFitAreErrors(t *testing.T) {
	for _, c := range opCases {
		for i := range c.in {
			if len(c.in) == 1 {
				continue
			}
			in := append([]tensor.Shape(nil), c.in...)
			in[i] = append(in[i].Clone(), 3)
			if _, err := c.kind.Infer(in); err == nil {
				t.Errorf("%s: shapes %v are taken", c.name, in)
			}
		}
	}
}

func nans(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.NaN())
	}
	return x
}

func relL2(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var d, n float64
	for i := range got {
		d += math.Pow(float64(got[i])-float64(want[i]), 2)
		n += math.Pow(float64(want[i]), 2)
	}
	return math.Sqrt(d / n)
}
