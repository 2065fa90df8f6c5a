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
	{"linear of one row", linear{bias: true}, shapes("1 33", "17 33", "17"), 0},
	{"linear with everything", linear{bias: true, residual: true, act: quickGELU},
		shapes("2 3 64", "48 64", "48", "2 3 48"), 0},
	{"linear with a gate", linear{bias: true, act: geglu}, shapes("2 11 16", "64 16", "64"), 0},
	{"conv 1x1", conv{stride: 1, up: 1}, shapes("1 3 5 8", "6 8 1 1", "6"), 0},
	{"conv 3x3 keeps the size", conv{stride: 1, up: 1, pad: padding{1, 1, 1, 1}}, shapes("2 7 5 4", "16 4 3 3", "16"), 0},
	{"conv with everything", conv{stride: 1, up: 1, pad: padding{1, 1, 1, 1}, channels: true, residual: true, act: silu},
		shapes("2 4 6 20", "24 20 3 3", "24", "2 24", "2 4 6 24"), 0},
	{"conv of stride 2", conv{stride: 2, up: 1, pad: padding{1, 1, 1, 1}}, shapes("1 9 6 4", "5 4 3 3", "5"), 0},
	{"conv padded at the end only", conv{stride: 2, up: 1, pad: padding{0, 0, 1, 1}},
		shapes("1 8 6 4", "5 4 3 3", "5"), 0},
	{"conv of an enlarged image", conv{stride: 1, up: 2, pad: padding{1, 1, 1, 1}}, shapes("1 3 4 8", "8 8 3 3", "8"), 0},
	{"group norm", groupNorm{groups: 4, eps: 1e-5}, shapes("2 3 5 24", "24", "24"), 0},
	{"group norm, then silu", groupNorm{groups: 32, eps: 1e-6, silu: true}, shapes("1 9 64", "64", "64"), 0},
	{"layer norm", layerNorm{eps: 1e-5}, shapes("2 3 50", "50", "50"), 0},
	{"attention", attention{heads: 2}, shapes("2 9 16", "2 5 16", "2 5 16"), 0},
	{"attention of an image", attention{heads: 1}, shapes("1 4 5 24", "1 4 5 24", "1 4 5 24"), 0},
	{"causal attention", attention{heads: 3, causal: true}, shapes("2 7 24", "2 7 24", "2 7 24"), 0},
	{"silu", activate{act: silu}, shapes("3 37"), 0},
	{"gelu", activate{act: gelu}, shapes("3 37"), 0},
	{"quick gelu", activate{act: quickGELU}, shapes("3 37"), 0},
	{"geglu", activate{act: geglu}, shapes("3 38"), 0},
	{"add", add{}, shapes("4 19", "4 19"), 0},
	{"add channels", addChannels{}, shapes("2 3 4 10", "2 10"), 0},
	{"concat", concat{}, shapes("2 3 4 10", "2 3 4 6"), 0},

	// What the blocks of transformers add.
	{"gelu by tanh", activate{act: geluTanh}, shapes("3 37"), 0},
	{"relu", activate{act: relu}, shapes("3 40"), 0},
	{"tanh", activate{act: tanh}, shapes("3 37"), 0},
	{"mul", mul{}, shapes("4 19", "4 19"), 0},
	{"mul by a vector for each image", mul{}, shapes("2 3 4 16", "2 16"), 0},
	{"mul by a vector for all", mul{}, shapes("3 2 10", "10"), 0},
	{"sub", sub{}, shapes("4 16", "4 16"), 0},
	{"sub of a vector for each image", sub{}, shapes("2 5 10", "2 10"), 0},
	{"sub of a vector for all", sub{}, shapes("3 16", "16"), 0},
	{"scale", scale{factor: 0.3}, shapes("3 4 5"), 0},
	{"scale of a vector", scale{factor: -2}, shapes("16"), 0},
	{"layer norm without weights", layerNorm{eps: 1e-6, bare: true}, shapes("2 3 64"), 0},
	{"rms norm", rmsNorm{heads: 1, eps: 1e-6, weight: true}, shapes("2 3 50", "50"), 0},
	{"rms norm without a weight", rmsNorm{heads: 1, eps: 1e-5}, shapes("2 3 64"), 0},
	{"rms norm of heads", rmsNorm{heads: 6, eps: 1e-6, weight: true}, shapes("2 3 96", "16"), 0},
	{"rms norm of one channel", rmsNorm{heads: 5, eps: 0.5, weight: true}, shapes("3 5", "1"), 0},
	{"rotary", rotary{heads: 3}, shapes("2 5 48", "5 8", "5 8"), 0},
	{"rotary of halves", rotary{heads: 3, halves: true}, shapes("2 5 48", "5 8", "5 8"), 0},
	{"rotary of an image", rotary{heads: 2}, shapes("2 3 4 12", "12 3", "12 3"), 0},
	{"rotary of a part of each head", rotary{heads: 2}, shapes("2 5 22", "5 3", "5 3"), 0},
	{"rotary of halves of a part of each head", rotary{heads: 2, halves: true}, shapes("2 5 64", "5 8", "5 8"), 0},
	{"modulate", modulate{apart: true}, shapes("2 3 4 16", "2 16", "2 16"), 0},
	{"modulate by parts, the shift first", modulate{scale: 1}, shapes("2 5 10", "2 50"), 0},
	{"modulate by parts of two tensors", modulate{scale: 2, shift: 1, apart: true}, shapes("3 2 16", "3 48", "3 32"), 0},
	{"modulate without a shift", modulate{scale: 2, shift: NoPart}, shapes("2 5 16", "2 64"), 0},
	{"add gated", addGated{}, shapes("2 5 16", "2 5 16", "2 16"), 0},
	{"add gated by a part", addGated{gate: 5}, shapes("2 3 2 10", "2 3 2 10", "2 60"), 0},
	{"gated by silu", gated{act: silu}, shapes("2 5 16", "2 5 16"), 0},
	{"gated by gelu", gated{act: gelu}, shapes("2 5 7", "2 5 7"), 0},
	{"gated by gelu by tanh", gated{act: geluTanh}, shapes("2 5 7", "2 5 7"), 0},
	{"swiglu", gatedHalves{act: silu}, shapes("3 2 38"), 0},
	{"swiglu, the gate first", gatedHalves{act: silu, gateFirst: true}, shapes("3 2 48"), 0},
	{"slice of the first dimension", slice{dim: 0, from: 1, to: 3}, shapes("4 3 5"), 0},
	{"slice of the middle", slice{dim: 1, from: 2, to: 6}, shapes("2 7 3 16"), 0},
	{"slice of the last dimension", slice{dim: 2, from: 16, to: 48}, shapes("2 3 64"), 0},
	{"slice of one place", slice{dim: 1, from: 4, to: 5}, shapes("3 5"), 0},
	{"slice at an odd place", slice{dim: 1, from: 3, to: 19}, shapes("3 64"), 0},
	{"permute to channels first", permute{dims: 4, order: [8]int{0, 3, 1, 2}}, shapes("2 3 4 5"), 0},
	{"permute of heads", permute{dims: 4, order: [8]int{0, 2, 1, 3}}, shapes("2 3 4 16"), 0},
	{"permute of patches", permute{dims: 6, order: [8]int{0, 1, 3, 2, 4, 5}}, shapes("1 3 2 4 2 8"), 0},
	{"permute of eight dimensions", permute{dims: 8, order: [8]int{7, 0, 6, 1, 5, 2, 4, 3}}, shapes("2 3 1 2 2 3 1 2"), 0},
	{"permute of ones", permute{dims: 3, order: [8]int{2, 1, 0}}, shapes("1 1 1"), 0},
	{"reshape", reshape{dims: 4, size: [8]int{2, 3, 2, 5}}, shapes("2 3 10"), 0},

	{"upsample", upsample{}, shapes("2 3 4 10"), 0},
	{"upsample to odd sizes", upsample{oddHeight: true, oddWidth: true}, shapes("1 3 4 10"), 0},
	{"embed", embed{}, shapes("2 5", "11 6", "8 6"), 11},
	{"pick", pick{}, shapes("3 5 6", "3"), 5},
	{"timesteps", timesteps{dim: 32, flip: true}, shapes("3 1"), 0},
	{"scale model input", scaleModelInput{n: 2, b: 4}, shapes("6 3 4 5", "61"), 0},
	{"guidance rescaled", guidanceSpread{}, shapes("4 7 9 5", "61"), 0},
	{"scheduler step", schedulerStep{n: 2}, shapes("4 3 4 5", "2 3 4 5", "61"), 0},
	{"scheduler step with guidance and noise, all samples", schedulerStep{n: 2, guided: true, noisy: true},
		shapes("12 3 4 5", "4 3 4 5", "61", "2", "2 3 4 5"), 0},
	{"not finite", nonFinite{}, shapes("2 3 4 5", "8 4 4 5"), 0},
	{"timesteps of six numbers", timesteps{dim: 8, shift: 1}, shapes("2 6"), 0},

	{"attention of shared heads", attention{heads: 6, kvHeads: 2}, shapes("2 9 48", "2 5 16", "2 5 16"), 0},
	{"attention of one head of keys", attention{heads: 4, kvHeads: 1, causal: true},
		shapes("2 9 32", "2 9 8", "2 9 8"), 0},
	{"attention of a scale", attention{heads: 2, scale: 1}, shapes("1 4 16", "1 5 16", "1 5 16"), 0},
	{"attention with a bias of positions", attention{heads: 2, bias: true, scale: 1},
		shapes("2 7 16", "2 7 16", "2 7 16", "2 7 7"), 0},
	{"attention with a bias of everything", attention{heads: 2, bias: true},
		shapes("2 7 16", "2 19 16", "2 19 16", "2 2 7 19"), 0},
	{"attention with a mask of keys", attention{heads: 2, kvHeads: 1, bias: true},
		shapes("3 7 16", "3 20 8", "3 20 8", "3 1 1 20"), 0},
	{"causal attention with a mask", attention{heads: 2, causal: true, bias: true},
		shapes("2 8 16", "2 8 16", "2 8 16", "1 1 8 8"), 0},
	{"attention with lengths", attention{heads: 2, lengths: true}, shapes("5 3 16", "5 4 16", "5 4 16", "5"), 5},
	{"attention with everything", attention{heads: 4, kvHeads: 2, scale: 0.3, causal: true, bias: true, lengths: true},
		shapes("3 21 32", "3 21 16", "3 21 16", "4 21 21", "3"), 22},
	{"conv of unequal strides", convOf(window{kernel: HW{3, 2}, stride: HW{1, 2}, pad: padding{1, 0, 1, 1}}, 1),
		shapes("2 7 6 5", "18 5 3 2", "18"), 0},
	{"conv with a dilation", convOf(window{kernel: Square(3), dilation: HW{2, 3}, pad: padding{2, 3, 2, 3}}, 1),
		shapes("1 8 7 20", "6 20 3 3", "6"), 0},
	{"conv of wide channels with a dilation", convOf(window{kernel: Square(2), dilation: Square(2)}, 1),
		shapes("1 4 5 400", "6 400 2 2", "6"), 0},
	{"conv of groups of whole panels", convOf(window{kernel: Square(3), pad: padding{1, 1, 1, 1}}, 2),
		shapes("2 5 4 8", "32 4 3 3", "32"), 0},
	{"conv of groups within a panel", convOf(window{kernel: Square(3), stride: Square(2)}, 5),
		shapes("1 7 9 15", "30 3 3 3", "30"), 0},
	{"conv of groups wider than a block", convOf(window{kernel: Square(1)}, 2),
		shapes("1 2 3 900", "10 450 1 1", "10"), 0},
	{"conv of two filters per channel", convOf(window{kernel: Square(2)}, 6), shapes("1 4 4 6", "12 1 2 2", "12"), 0},
	{"depthwise conv", convOf(window{kernel: HW{5, 3}, pad: padding{2, 1, 2, 1}}, 37),
		shapes("2 6 7 37", "37 1 5 3", "37"), 0},
	{"depthwise conv without bias", convWindow{window: unit(window{kernel: Square(3), stride: Square(2)}), groups: 16},
		shapes("1 9 9 16", "16 1 3 3"), 0},
	{"conv of a sequence", convOf(window{kernel: HW{1, 5}, stride: Square(2), pad: padding{left: 3, right: 1}}, 1),
		shapes("2 13 6", "9 6 5", "9"), 0},
	{"conv of a sequence without bias", convWindow{window: unit(window{kernel: HW{1, 1}}), groups: 1},
		shapes("2 5 8", "9 8 1"), 0},
	{"conv of a sequence with everything", convOf(window{kernel: HW{1, 3}, dilation: HW{1, 4}, pad: padding{left: 8}}, 3),
		shapes("2 13 6", "9 2 3", "9"), 0},
	{"max pool", pool{window: unit(window{kernel: Square(3), stride: Square(2), pad: padding{1, 1, 1, 1}})},
		shapes("2 7 6 5"), 0},
	{"max pool with a dilation",
		pool{window: unit(window{kernel: Square(2), dilation: Square(3), pad: padding{1, 1, 1, 1}})},
		shapes("1 5 6 20"), 0},
	{"max pool of a sequence", pool{window: unit(window{kernel: HW{1, 2}, stride: HW{1, 2}})}, shapes("3 7 4"), 0},
	{"average pool counts padding",
		pool{average: true, window: unit(window{kernel: HW{2, 3}, stride: HW{2, 1}, pad: padding{1, 1, 0, 1}})},
		shapes("2 7 6 5"), 0},
	{"average pool of a sequence", pool{average: true, window: unit(window{kernel: HW{1, 4}, pad: padding{left: 2}})},
		shapes("2 9 33"), 0},
	{"adaptive average", adaptiveAverage{h: 3, w: 4}, shapes("2 7 6 5"), 0},
	{"adaptive average to more parts than pixels", adaptiveAverage{h: 5, w: 1}, shapes("1 3 6 5"), 0},
	{"global average", adaptiveAverage{h: 1, w: 1}, shapes("2 9 11 70"), 0},
	{"adaptive average of a sequence", adaptiveAverage{h: 1, w: 3}, shapes("2 10 7"), 0},
}

// unit fills in strides and dilations of 1.
func unit(w window) window {
	w.stride, w.dilation = w.stride.or(Square(1)), w.dilation.or(Square(1))
	return w
}

func convOf(w window, groups int) convWindow {
	return convWindow{window: unit(w), groups: groups, bias: true}
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
		case isAttention && a.bias && i == a.biasAt():
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
				shape, err := c.kind.infer(c.in)
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
		activate{act: geluTanh}, activate{act: relu}, activate{act: tanh}, mul{}, sub{}, scale{factor: 1}, scale{factor: 2},
		rmsNorm{heads: 1, eps: 1e-5}, rmsNorm{heads: 2, eps: 1e-5}, rmsNorm{heads: 1, eps: 1e-6},
		rmsNorm{heads: 1, eps: 1e-5, weight: true}, rotary{heads: 1}, rotary{heads: 2}, rotary{heads: 1, halves: true},
		modulate{}, modulate{scale: 1}, modulate{shift: 1}, modulate{apart: true}, addGated{}, addGated{gate: 1},
		gated{act: silu}, gated{act: gelu}, gatedHalves{act: silu}, gatedHalves{act: gelu}, gatedHalves{act: silu, gateFirst: true},
		slice{to: 1}, slice{to: 2}, slice{from: 1, to: 2}, slice{dim: 1, to: 1},
		permute{dims: 2, order: [8]int{1, 0}}, permute{dims: 3, order: [8]int{1, 0, 2}}, permute{dims: 3, order: [8]int{1, 2, 0}},
		reshape{dims: 1, size: [8]int{6}}, reshape{dims: 2, size: [8]int{6, 1}}, reshape{dims: 2, size: [8]int{1, 6}},
		linear{}, linear{bias: true}, linear{residual: true}, linear{act: silu}, linear{act: gelu},
		conv{stride: 1, up: 1}, conv{stride: 2, up: 1}, conv{stride: 1, up: 2},
		conv{stride: 1, up: 1, pad: padding{top: 1}}, conv{stride: 1, up: 1, pad: padding{left: 1}},
		conv{stride: 1, up: 1, pad: padding{bottom: 1}}, conv{stride: 1, up: 1, pad: padding{right: 1}},
		conv{stride: 1, up: 1, channels: true}, conv{stride: 1, up: 1, residual: true}, conv{stride: 1, up: 1, act: silu},
		groupNorm{groups: 1, eps: 1e-5}, groupNorm{groups: 2, eps: 1e-5}, groupNorm{groups: 1, eps: 1e-6},
		groupNorm{groups: 1, eps: 1e-5, silu: true}, layerNorm{eps: 1e-5}, layerNorm{eps: 1e-6}, layerNorm{eps: 1e-5, bare: true},
		attention{heads: 1}, attention{heads: 2}, attention{heads: 1, causal: true},
		activate{act: silu}, activate{act: gelu}, activate{act: quickGELU}, activate{act: geglu},
		add{}, addChannels{}, concat{}, upsample{}, upsample{oddHeight: true}, upsample{oddWidth: true}, embed{}, pick{},
		timesteps{dim: 2}, timesteps{dim: 4}, timesteps{dim: 2, flip: true}, timesteps{dim: 2, shift: 1},
		attention{heads: 2, kvHeads: 1}, attention{heads: 2, scale: 1}, attention{heads: 2, bias: true},
		attention{heads: 2, lengths: true},
		pool{}, pool{average: true}, adaptiveAverage{}, adaptiveAverage{h: 1}, adaptiveAverage{w: 1},
		convWindow{}, convWindow{groups: 1}, convWindow{bias: true},
	}
	for _, w := range []window{
		{kernel: HW{H: 1}}, {kernel: HW{W: 1}}, {stride: HW{H: 1}}, {stride: HW{W: 1}},
		{dilation: HW{H: 1}}, {dilation: HW{W: 1}},
		{pad: padding{top: 1}}, {pad: padding{left: 1}}, {pad: padding{bottom: 1}}, {pad: padding{right: 1}},
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
			if _, err := c.kind.infer(in); err == nil {
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
