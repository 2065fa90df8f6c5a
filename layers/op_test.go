package layers

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/sched"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// opCases are the ops with argument shapes; the name says what the case is about. An argument whose name is
// "ids" is int32.
var opCases = []struct {
	name string
	kind kind
	in   []tensor.Shape
	ids  int // exclusive bound of int32 argument values; 0: none
}{
	{"linear", linear{}, shapes("5 7", "9 7"), 0},
	{"linear of one row", linear{Bias: true}, shapes("1 33", "17 33", "17"), 0},
	{"linear with everything", linear{Bias: true, Residual: true, Act: QuickGELU},
		shapes("2 3 64", "48 64", "48", "2 3 48"), 0},
	{"linear with a gate", linear{Bias: true, Act: GEGLU}, shapes("2 11 16", "64 16", "64"), 0},
	{"conv 1x1", conv{Stride: 1, Up: 1}, shapes("1 3 5 8", "6 8 1 1", "6"), 0},
	{"conv 3x3 keeps the size", conv{Stride: 1, Up: 1, Pad: padding{1, 1, 1, 1}}, shapes("2 7 5 4", "16 4 3 3", "16"), 0},
	{"conv with everything", conv{Stride: 1, Up: 1, Pad: padding{1, 1, 1, 1}, Channels: true, Residual: true, Act: SiLU},
		shapes("2 4 6 20", "24 20 3 3", "24", "2 24", "2 4 6 24"), 0},
	{"conv of stride 2", conv{Stride: 2, Up: 1, Pad: padding{1, 1, 1, 1}}, shapes("1 9 6 4", "5 4 3 3", "5"), 0},
	{"conv padded at the end only", conv{Stride: 2, Up: 1, Pad: padding{0, 0, 1, 1}},
		shapes("1 8 6 4", "5 4 3 3", "5"), 0},
	{"conv of an enlarged image", conv{Stride: 1, Up: 2, Pad: padding{1, 1, 1, 1}}, shapes("1 3 4 8", "8 8 3 3", "8"), 0},
	{"group norm", groupNorm{Groups: 4, Eps: 1e-5}, shapes("2 3 5 24", "24", "24"), 0},
	{"group norm, then silu", groupNorm{Groups: 32, Eps: 1e-6, SiLU: true}, shapes("1 9 64", "64", "64"), 0},
	{"layer norm", layerNorm{Eps: 1e-5}, shapes("2 3 50", "50", "50"), 0},
	{"attention", attention{Heads: 2}, shapes("2 9 16", "2 5 16", "2 5 16"), 0},
	{"attention of an image", attention{Heads: 1}, shapes("1 4 5 24", "1 4 5 24", "1 4 5 24"), 0},
	{"causal attention", attention{Heads: 3, Causal: true}, shapes("2 7 24", "2 7 24", "2 7 24"), 0},
	{"silu", activate{Act: SiLU}, shapes("3 37"), 0},
	{"gelu", activate{Act: GELU}, shapes("3 37"), 0},
	{"quick gelu", activate{Act: QuickGELU}, shapes("3 37"), 0},
	{"geglu", activate{Act: GEGLU}, shapes("3 38"), 0},
	{"add", add{}, shapes("4 19", "4 19"), 0},
	{"add channels", addChannels{}, shapes("2 3 4 10", "2 10"), 0},
	{"concat", concat{}, shapes("2 3 4 10", "2 3 4 6"), 0},

	// What the blocks of transformers add.
	{"gelu by tanh", activate{Act: GELUTanh}, shapes("3 37"), 0},
	{"relu", activate{Act: ReLU}, shapes("3 40"), 0},
	{"tanh", activate{Act: Tanh}, shapes("3 37"), 0},
	{"mul", mul{}, shapes("4 19", "4 19"), 0},
	{"mul by a vector for each image", mul{}, shapes("2 3 4 16", "2 16"), 0},
	{"mul by a vector for all", mul{}, shapes("3 2 10", "10"), 0},
	{"sub", sub{}, shapes("4 16", "4 16"), 0},
	{"sub of a vector for each image", sub{}, shapes("2 5 10", "2 10"), 0},
	{"sub of a vector for all", sub{}, shapes("3 16", "16"), 0},
	{"scale", scale{Factor: 0.3}, shapes("3 4 5"), 0},
	{"scale of a vector", scale{Factor: -2}, shapes("16"), 0},
	{"layer norm without weights", layerNorm{Eps: 1e-6, Bare: true}, shapes("2 3 64"), 0},
	{"rms norm", rmsNorm{Heads: 1, Eps: 1e-6, Weight: true}, shapes("2 3 50", "50"), 0},
	{"rms norm without a weight", rmsNorm{Heads: 1, Eps: 1e-5}, shapes("2 3 64"), 0},
	{"rms norm of heads", rmsNorm{Heads: 6, Eps: 1e-6, Weight: true}, shapes("2 3 96", "16"), 0},
	{"rms norm of one channel", rmsNorm{Heads: 5, Eps: 0.5, Weight: true}, shapes("3 5", "1"), 0},
	{"rotary", rotary{Heads: 3}, shapes("2 5 48", "5 8", "5 8"), 0},
	{"rotary of halves", rotary{Heads: 3, Halves: true}, shapes("2 5 48", "5 8", "5 8"), 0},
	{"rotary of an image", rotary{Heads: 2}, shapes("2 3 4 12", "12 3", "12 3"), 0},
	{"rotary of a part of each head", rotary{Heads: 2}, shapes("2 5 22", "5 3", "5 3"), 0},
	{"rotary of halves of a part of each head", rotary{Heads: 2, Halves: true}, shapes("2 5 64", "5 8", "5 8"), 0},
	{"modulate", modulate{Apart: true}, shapes("2 3 4 16", "2 16", "2 16"), 0},
	{"modulate by parts, the shift first", modulate{Scale: 1}, shapes("2 5 10", "2 50"), 0},
	{"modulate by parts of two tensors", modulate{Scale: 2, Shift: 1, Apart: true}, shapes("3 2 16", "3 48", "3 32"), 0},
	{"modulate without a shift", modulate{Scale: 2, Shift: NoPart}, shapes("2 5 16", "2 64"), 0},
	{"add gated", addGated{}, shapes("2 5 16", "2 5 16", "2 16"), 0},
	{"add gated by a part", addGated{Gate: 5}, shapes("2 3 2 10", "2 3 2 10", "2 60"), 0},
	{"gated by silu", gated{Act: SiLU}, shapes("2 5 16", "2 5 16"), 0},
	{"gated by gelu", gated{Act: GELU}, shapes("2 5 7", "2 5 7"), 0},
	{"gated by gelu by tanh", gated{Act: GELUTanh}, shapes("2 5 7", "2 5 7"), 0},
	{"swiglu", gatedHalves{Act: SiLU}, shapes("3 2 38"), 0},
	{"swiglu, the gate first", gatedHalves{Act: SiLU, GateFirst: true}, shapes("3 2 48"), 0},
	{"slice of the first dimension", slice{Dim: 0, From: 1, To: 3}, shapes("4 3 5"), 0},
	{"slice of the middle", slice{Dim: 1, From: 2, To: 6}, shapes("2 7 3 16"), 0},
	{"slice of the last dimension", slice{Dim: 2, From: 16, To: 48}, shapes("2 3 64"), 0},
	{"slice of one place", slice{Dim: 1, From: 4, To: 5}, shapes("3 5"), 0},
	{"slice at an odd place", slice{Dim: 1, From: 3, To: 19}, shapes("3 64"), 0},
	{"permute to channels first", permute{Dims: 4, Order: [8]int{0, 3, 1, 2}}, shapes("2 3 4 5"), 0},
	{"permute of heads", permute{Dims: 4, Order: [8]int{0, 2, 1, 3}}, shapes("2 3 4 16"), 0},
	{"permute of patches", permute{Dims: 6, Order: [8]int{0, 1, 3, 2, 4, 5}}, shapes("1 3 2 4 2 8"), 0},
	{"permute of eight dimensions", permute{Dims: 8, Order: [8]int{7, 0, 6, 1, 5, 2, 4, 3}}, shapes("2 3 1 2 2 3 1 2"), 0},
	{"permute of ones", permute{Dims: 3, Order: [8]int{2, 1, 0}}, shapes("1 1 1"), 0},
	{"reshape", reshape{Dims: 4, Size: [8]int{2, 3, 2, 5}}, shapes("2 3 10"), 0},

	{"upsample", upsample{}, shapes("2 3 4 10"), 0},
	{"upsample to odd sizes", upsample{OddHeight: true, OddWidth: true}, shapes("1 3 4 10"), 0},
	{"embed", embed{}, shapes("2 5", "11 6", "8 6"), 11},
	{"pick", pick{}, shapes("3 5 6", "3"), 5},
	{"timesteps", timesteps{Dim: 32, Flip: true}, shapes("3 1"), 0},
	{"scale model input", scaleModelInput{N: 2, B: 4}, shapes("6 3 4 5", "61"), 0},
	{"guidance rescaled", guidanceSpread{}, shapes("4 7 9 5", "61"), 0},
	{"scheduler step", schedulerStep{N: 2}, shapes("4 3 4 5", "2 3 4 5", "61"), 0},
	{"scheduler step with guidance and noise, all samples", schedulerStep{N: 2, Guided: true, Noisy: true},
		shapes("12 3 4 5", "4 3 4 5", "61", "2", "2 3 4 5"), 0},
	{"not finite", nonFinite{}, shapes("2 3 4 5", "8 4 4 5"), 0},
	{"timesteps of six numbers", timesteps{Dim: 8, Shift: 1}, shapes("2 6"), 0},

	{"attention of shared heads", attention{Heads: 6, KVHeads: 2}, shapes("2 9 48", "2 5 16", "2 5 16"), 0},
	{"attention of one head of keys", attention{Heads: 4, KVHeads: 1, Causal: true},
		shapes("2 9 32", "2 9 8", "2 9 8"), 0},
	{"attention of a scale", attention{Heads: 2, Scale: 1}, shapes("1 4 16", "1 5 16", "1 5 16"), 0},
	{"attention with a bias of positions", attention{Heads: 2, Bias: true, Scale: 1},
		shapes("2 7 16", "2 7 16", "2 7 16", "2 7 7"), 0},
	{"attention with a bias of everything", attention{Heads: 2, Bias: true},
		shapes("2 7 16", "2 19 16", "2 19 16", "2 2 7 19"), 0},
	{"attention with a mask of keys", attention{Heads: 2, KVHeads: 1, Bias: true},
		shapes("3 7 16", "3 20 8", "3 20 8", "3 1 1 20"), 0},
	{"causal attention with a mask", attention{Heads: 2, Causal: true, Bias: true},
		shapes("2 8 16", "2 8 16", "2 8 16", "1 1 8 8"), 0},
	{"attention with lengths", attention{Heads: 2, Lengths: true}, shapes("5 3 16", "5 4 16", "5 4 16", "5"), 5},
	{"attention with everything", attention{Heads: 4, KVHeads: 2, Scale: 0.3, Causal: true, Bias: true, Lengths: true},
		shapes("3 21 32", "3 21 16", "3 21 16", "4 21 21", "3"), 22},
	{"conv of unequal strides", convOf(window{Kernel: HW{3, 2}, Stride: HW{1, 2}, Pad: padding{1, 0, 1, 1}}, 1),
		shapes("2 7 6 5", "18 5 3 2", "18"), 0},
	{"conv with a dilation", convOf(window{Kernel: Square(3), Dilation: HW{2, 3}, Pad: padding{2, 3, 2, 3}}, 1),
		shapes("1 8 7 20", "6 20 3 3", "6"), 0},
	{"conv of wide channels with a dilation", convOf(window{Kernel: Square(2), Dilation: Square(2)}, 1),
		shapes("1 4 5 400", "6 400 2 2", "6"), 0},
	{"conv of groups of whole panels", convOf(window{Kernel: Square(3), Pad: padding{1, 1, 1, 1}}, 2),
		shapes("2 5 4 8", "32 4 3 3", "32"), 0},
	{"conv of groups within a panel", convOf(window{Kernel: Square(3), Stride: Square(2)}, 5),
		shapes("1 7 9 15", "30 3 3 3", "30"), 0},
	{"conv of groups wider than a block", convOf(window{Kernel: Square(1)}, 2),
		shapes("1 2 3 900", "10 450 1 1", "10"), 0},
	{"conv of two filters per channel", convOf(window{Kernel: Square(2)}, 6), shapes("1 4 4 6", "12 1 2 2", "12"), 0},
	{"depthwise conv", convOf(window{Kernel: HW{5, 3}, Pad: padding{2, 1, 2, 1}}, 37),
		shapes("2 6 7 37", "37 1 5 3", "37"), 0},
	{"depthwise conv without bias", convWindow{window: unit(window{Kernel: Square(3), Stride: Square(2)}), Groups: 16},
		shapes("1 9 9 16", "16 1 3 3"), 0},
	{"conv of a sequence", convOf(window{Kernel: HW{1, 5}, Stride: Square(2), Pad: padding{Left: 3, Right: 1}}, 1),
		shapes("2 13 6", "9 6 5", "9"), 0},
	{"conv of a sequence without bias", convWindow{window: unit(window{Kernel: HW{1, 1}}), Groups: 1},
		shapes("2 5 8", "9 8 1"), 0},
	{"conv of a sequence with everything", convOf(window{Kernel: HW{1, 3}, Dilation: HW{1, 4}, Pad: padding{Left: 8}}, 3),
		shapes("2 13 6", "9 2 3", "9"), 0},
	{"max pool", pool{window: unit(window{Kernel: Square(3), Stride: Square(2), Pad: padding{1, 1, 1, 1}})},
		shapes("2 7 6 5"), 0},
	{"max pool with a dilation",
		pool{window: unit(window{Kernel: Square(2), Dilation: Square(3), Pad: padding{1, 1, 1, 1}})},
		shapes("1 5 6 20"), 0},
	{"max pool of a sequence", pool{window: unit(window{Kernel: HW{1, 2}, Stride: HW{1, 2}})}, shapes("3 7 4"), 0},
	{"average pool counts padding",
		pool{Average: true, window: unit(window{Kernel: HW{2, 3}, Stride: HW{2, 1}, Pad: padding{1, 1, 0, 1}})},
		shapes("2 7 6 5"), 0},
	{"average pool of a sequence", pool{Average: true, window: unit(window{Kernel: HW{1, 4}, Pad: padding{Left: 2}})},
		shapes("2 9 33"), 0},
	{"adaptive average", adaptiveAverage{H: 3, W: 4}, shapes("2 7 6 5"), 0},
	{"adaptive average to more parts than pixels", adaptiveAverage{H: 5, W: 1}, shapes("1 3 6 5"), 0},
	{"global average", adaptiveAverage{H: 1, W: 1}, shapes("2 9 11 70"), 0},
	{"adaptive average of a sequence", adaptiveAverage{H: 1, W: 3}, shapes("2 10 7"), 0},
}

// unit fills in strides and dilations of 1.
func unit(w window) window {
	w.Stride, w.Dilation = w.Stride.or(Square(1)), w.Dilation.or(Square(1))
	return w
}

func convOf(w window, groups int) convWindow {
	return convWindow{window: unit(w), Groups: groups, Bias: true}
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
func arguments(in []tensor.Shape, k kind, ids int) []G.Value {
	rng := rand.New(rand.NewPCG(1, 2))
	var vals []G.Value
	for i, s := range in {
		a, isAttention := k.(attention)
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
			hide(d, last(s))
		case k == kind(nonFinite{}) && i == 1:
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
				want, err := op{c.kind}.Do(vals...)
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
	distinct := []kind{
		activate{Act: GELUTanh}, activate{Act: ReLU}, activate{Act: Tanh}, mul{}, sub{}, scale{Factor: 1}, scale{Factor: 2},
		rmsNorm{Heads: 1, Eps: 1e-5}, rmsNorm{Heads: 2, Eps: 1e-5}, rmsNorm{Heads: 1, Eps: 1e-6},
		rmsNorm{Heads: 1, Eps: 1e-5, Weight: true}, rotary{Heads: 1}, rotary{Heads: 2}, rotary{Heads: 1, Halves: true},
		modulate{}, modulate{Scale: 1}, modulate{Shift: 1}, modulate{Apart: true}, addGated{}, addGated{Gate: 1},
		gated{Act: SiLU}, gated{Act: GELU}, gatedHalves{Act: SiLU}, gatedHalves{Act: GELU}, gatedHalves{Act: SiLU, GateFirst: true},
		slice{To: 1}, slice{To: 2}, slice{From: 1, To: 2}, slice{Dim: 1, To: 1},
		permute{Dims: 2, Order: [8]int{1, 0}}, permute{Dims: 3, Order: [8]int{1, 0, 2}}, permute{Dims: 3, Order: [8]int{1, 2, 0}},
		reshape{Dims: 1, Size: [8]int{6}}, reshape{Dims: 2, Size: [8]int{6, 1}}, reshape{Dims: 2, Size: [8]int{1, 6}},
		linear{}, linear{Bias: true}, linear{Residual: true}, linear{Act: SiLU}, linear{Act: GELU},
		conv{Stride: 1, Up: 1}, conv{Stride: 2, Up: 1}, conv{Stride: 1, Up: 2},
		conv{Stride: 1, Up: 1, Pad: padding{Top: 1}}, conv{Stride: 1, Up: 1, Pad: padding{Left: 1}},
		conv{Stride: 1, Up: 1, Pad: padding{Bottom: 1}}, conv{Stride: 1, Up: 1, Pad: padding{Right: 1}},
		conv{Stride: 1, Up: 1, Channels: true}, conv{Stride: 1, Up: 1, Residual: true}, conv{Stride: 1, Up: 1, Act: SiLU},
		groupNorm{Groups: 1, Eps: 1e-5}, groupNorm{Groups: 2, Eps: 1e-5}, groupNorm{Groups: 1, Eps: 1e-6},
		groupNorm{Groups: 1, Eps: 1e-5, SiLU: true}, layerNorm{Eps: 1e-5}, layerNorm{Eps: 1e-6}, layerNorm{Eps: 1e-5, Bare: true},
		attention{Heads: 1}, attention{Heads: 2}, attention{Heads: 1, Causal: true},
		activate{Act: SiLU}, activate{Act: GELU}, activate{Act: QuickGELU}, activate{Act: GEGLU},
		add{}, addChannels{}, concat{}, upsample{}, upsample{OddHeight: true}, upsample{OddWidth: true}, embed{}, pick{},
		timesteps{Dim: 2}, timesteps{Dim: 4}, timesteps{Dim: 2, Flip: true}, timesteps{Dim: 2, Shift: 1},
		attention{Heads: 2, KVHeads: 1}, attention{Heads: 2, Scale: 1}, attention{Heads: 2, Bias: true},
		attention{Heads: 2, Lengths: true},
		pool{}, pool{Average: true}, adaptiveAverage{}, adaptiveAverage{H: 1}, adaptiveAverage{W: 1},
		convWindow{}, convWindow{Groups: 1}, convWindow{Bias: true},
	}
	for _, w := range []window{
		{Kernel: HW{H: 1}}, {Kernel: HW{W: 1}}, {Stride: HW{H: 1}}, {Stride: HW{W: 1}},
		{Dilation: HW{H: 1}}, {Dilation: HW{W: 1}},
		{Pad: padding{Top: 1}}, {Pad: padding{Left: 1}}, {Pad: padding{Bottom: 1}}, {Pad: padding{Right: 1}},
	} {
		distinct = append(distinct, pool{window: w}, convWindow{window: w})
	}
	seen := map[uint32]kind{}
	for _, k := range distinct {
		h := op{k}.Hashcode()
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
