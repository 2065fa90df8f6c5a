package ops

import (
	"math"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Shapes and numbers that do not fit are errors that say which would.
func TestErrorsSayWhatIsWanted(t *testing.T) {
	square, even := Window{Kernel: Square(3)}, Window{Kernel: Square(2)}
	for _, c := range []struct {
		name string
		kind op.Kind
		in   []tensor.Shape
		want string
	}{
		{"heads that do not divide", Attention{Heads: 3}, shapes("1 4 16", "1 4 16", "1 4 16"), "want q [B ... 3*D]"},
		{"heads of keys that do not divide", Attention{Heads: 4, KVHeads: 3},
			shapes("1 4 16", "1 4 12", "1 4 12"), "kvHeads is a divisor"},
		{"no heads", Attention{}, shapes("1 4 16", "1 4 16", "1 4 16"), "want heads"},
		{"a negative scale", Attention{Heads: 1, Scale: -1}, shapes("1 4 16", "1 4 16", "1 4 16"), "a scale above 0"},
		{"a scale that is no number", Attention{Heads: 1, Scale: float32(math.NaN())},
			shapes("1 4 16", "1 4 16", "1 4 16"), "a scale above 0"},
		{"keys of all heads", Attention{Heads: 4, KVHeads: 2},
			shapes("2 4 16", "2 5 16", "2 5 16"), "want k and v [2 ... 8]"},
		{"causal over other positions", Attention{Heads: 2, Causal: true},
			shapes("2 4 16", "2 5 16", "2 5 16"), "want k and v [2 ... 16] of 4 positions"},
		{"a bias of other heads", Attention{Heads: 4, Bias: true},
			shapes("2 4 16", "2 5 16", "2 5 16", "2 3 4 5"), "want bias [2 4 4 5]"},
		{"a bias per key", Attention{Heads: 4, Bias: true},
			shapes("2 4 16", "2 5 16", "2 5 16", "2 5"), "want bias [2 4 4 5]"},
		{"lengths of another batch", Attention{Heads: 4, Lengths: true},
			shapes("2 4 16", "2 5 16", "2 5 16", "3"), "want lengths [2]"},
		{"channels that groups do not divide", convOf(square, 4),
			shapes("1 5 5 6", "8 2 3 3", "8"), "In a multiple of the 4 groups"},
		{"a filter of all channels", convOf(square, 2),
			shapes("1 5 5 6", "8 6 3 3", "8"), "want w [Out 3 3 3], Out a multiple of the 2 groups"},
		{"outputs that groups do not divide", convOf(square, 2),
			shapes("1 5 5 6", "9 3 3 3", "9"), "Out a multiple of the 2 groups"},
		{"a filter of another size", convOf(square, 1), shapes("1 5 5 6", "8 6 3 2", "8"), "want w [Out 6 3 3]"},
		{"a flat filter of a sequence", convOf(Window{Kernel: HW{1, 3}}, 1),
			shapes("1 5 6", "8 6 1 3", "8"), "want w [Out 6 3]"},
		{"a kernel of rows for a sequence", convOf(square, 1), shapes("1 5 6", "8 6 3", "8"), "a kernel of width alone"},
		{"an image that is too small", convOf(square, 1),
			shapes("1 2 5 6", "8 6 3 3", "8"), "want x with its padding at least 3 high and 3 wide"},
		{"a bias of other outputs", convOf(square, 1), shapes("1 5 5 6", "8 6 3 3", "9"), "want bias [8]"},
		{"no stride", ConvWindow{Window: square, Groups: 1},
			shapes("1 5 5 6", "8 6 3 3"), "strides and dilations of at least 1"},
		{"a negative padding", convOf(Window{Kernel: Square(3), Pad: Padding{Top: -1}}, 1),
			shapes("1 5 5 6", "8 6 3 3", "8"), "a padding that is not negative"},
		{"a pool of a vector", Pool{Window: unit(even)}, shapes("5 6"), "want x [B H W C] or [B L C]"},
		{"padding of more than half", Pool{Window: unit(Window{Kernel: Square(3), Pad: Padding{Right: 2}})},
			shapes("1 5 5 6"), "at most half the kernel, 1 and 1"},
		{"padding of more than half above", Pool{Window: unit(Window{Kernel: Square(3), Pad: Padding{Top: 2}})},
			shapes("1 5 5 6"), "at most half the kernel, 1 and 1"},
		{"a dilation of an average", Pool{Average: true, Window: unit(Window{Kernel: Square(2), Dilation: Square(2)})},
			shapes("1 5 5 6"), "no dilation of an average"},
		{"no parts", AdaptiveAverage{W: 1}, shapes("1 5 5 6"), "at least one part"},
		{"parts of a vector", AdaptiveAverage{H: 1, W: 1}, shapes("5 6"), "want x [B H W C]"},
		{"rows of a sequence", AdaptiveAverage{H: 2, W: 1}, shapes("1 5 6"), "or [B L C] and h 1"},
	} {
		if _, err := c.kind.Infer(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}

// The kernels that general forms run on: those of today's models where they do the same.
func TestKernelsOfGeneralForms(t *testing.T) {
	turing, ampere := device.Kernels{Processors: 40}, device.Kernels{TensorCore: true, Processors: 108}
	same := Window{Kernel: Square(3), Pad: Padding{1, 1, 1, 1}}
	for _, c := range []struct {
		on   device.Kernels
		kind op.Kind
		in   []tensor.Shape
		typ  dtype.Type
		want string
	}{
		{ampere, Attention{Heads: 1, Scale: 2}, shapes("1 9 64", "1 9 64", "1 9 64"), dtype.F16, "attention_64_f16"},
		{ampere, Attention{Heads: 2, KVHeads: 2}, shapes("1 9 128", "1 9 128", "1 9 128"), dtype.F16, "attention_64_f16"},
		{ampere, Attention{Heads: 1}, shapes("1 9 128", "1 9 128", "1 9 128"), dtype.BF16, "attention_128_bf16"},
		{ampere, Attention{Heads: 2, KVHeads: 1},
			shapes("1 9 256", "1 9 128", "1 9 128"), dtype.F16, "attention_general_128_f16"},
		{ampere, Attention{Heads: 1, Bias: true},
			shapes("1 9 64", "1 9 64", "1 9 64", "1 9 9"), dtype.F16, "attention_general_64_f16"},
		{ampere, Attention{Heads: 1, Lengths: true},
			shapes("1 9 80", "1 9 80", "1 9 80", "1"), dtype.F16, "attention_general_upto_160_f16"},
		{ampere, Attention{Heads: 1}, shapes("1 9 128", "1 9 128", "1 9 128"), dtype.F32, "attention_upto_160_f32"},
		{turing, Attention{Heads: 1, Lengths: true},
			shapes("1 9 64", "1 9 64", "1 9 64", "1"), dtype.F16, "attention_general_upto_64_f16"},
		{ampere, ConvWindow{Window: unit(same), Groups: 1}, shapes("1 9 9 16", "16 16 3 3"), dtype.F16, "conv_64x64_f16"},
		{turing, ConvWindow{Window: unit(same), Groups: 1}, shapes("1 9 9 16", "16 16 3 3"), dtype.F16, "gemm_f16"},
		{ampere, convOf(Window{Kernel: HW{1, 3}, Stride: HW{1, 2}}, 1),
			shapes("1 99 16", "16 16 3", "16"), dtype.F16, "conv_64x64_f16"},
		{ampere, convOf(Window{Kernel: HW{1, 1}}, 1), shapes("1 99 16", "16 16 1", "16"), dtype.F16, "linear_64x64_f16"},
		{ampere, convOf(Window{Kernel: HW{1, 3}}, 1),
			shapes("1 32768 16", "16 16 3", "16"), dtype.F16, "conv_window_f16"}, // too long
		{ampere, convOf(Window{Kernel: Square(3), Dilation: HW{1, 2}}, 1),
			shapes("1 9 9 16", "16 16 3 3", "16"), dtype.F16, "conv_window_f16"},
		{ampere, convOf(Window{Kernel: Square(3), Stride: HW{1, 2}}, 1),
			shapes("1 9 9 16", "16 16 3 3", "16"), dtype.F16, "conv_window_f16"},
		{ampere, convOf(same, 2), shapes("1 9 9 16", "16 8 3 3", "16"), dtype.F16, "conv_window_f16"},
		{ampere, convOf(same, 16), shapes("1 9 9 16", "32 1 3 3", "32"), dtype.F16, "conv_window_f16"},
		{ampere, convOf(same, 16), shapes("1 9 9 16", "16 1 3 3", "16"), dtype.F16, "conv_depthwise_f16"},
	} {
		if got := kernelOf(t, c.on, c.kind, c.in, c.typ); got != c.want {
			t.Errorf("%v of %v runs on %s, want %s", c.kind, c.in, got, c.want)
		}
	}
}

func TestMaxPoolKeepsNaN(t *testing.T) {
	p := cpu.NewPool(1)
	defer p.Close()
	k := Pool{Window: unit(Window{Kernel: HW{1, 3}})}
	for at := range 3 {
		x := []float32{1, 2, 3}
		x[at] = float32(math.NaN())
		v := tensor.New(tensor.WithShape(1, 3, 1), tensor.WithBacking(x))
		defined, err := op.Op{Kind: k}.Do(v)
		if err != nil {
			t.Fatal(err)
		}
		out := program.Arg{Shape: tensor.Shape{1, 1, 1}, DType: dtype.F32, Data: make([]byte, 4)}
		k.Host(p, out, []program.Arg{hostArg(v, program.Plain, dtype.F32)})
		for form, got := range map[string]float32{"definition": defined.Data().([]float32)[0], "host form": out.F32()[0]} {
			if got == got {
				t.Errorf("%s: a window with NaN at place %d gives %g", form, at, got)
			}
		}
	}
}

// General host forms give the same bits for any number of threads, and take no memory beyond the pool's.
func TestGeneralHostForms(t *testing.T) {
	one, three := cpu.NewPool(1), cpu.NewPool(3)
	defer one.Close()
	defer three.Close()
	for _, c := range opCases {
		switch c.kind.(type) {
		case Attention, ConvWindow, Pool, AdaptiveAverage:
		default:
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			vals := arguments(c.in, c.kind, c.ids)
			in := make([]program.Arg, len(vals))
			for i, v := range vals {
				in[i] = hostArg(v, c.kind.Layout(i), dtype.F16)
			}
			shape, err := c.kind.Infer(c.in)
			if err != nil {
				t.Fatal(err)
			}
			var got [2][]float32
			for i, p := range []*cpu.Pool{one, three} {
				out := program.Arg{Shape: shape, DType: dtype.F32, Data: program.Bytes(nans(shape.TotalSize()))}
				c.kind.Host(p, out, in)
				got[i] = out.F32()
				// What a call takes is the job of the pool and closures, whatever the shape.
				if n := testing.AllocsPerRun(10, func() { c.kind.Host(p, out, in) }); n > 4 {
					t.Errorf("%g allocations per call", n)
				}
			}
			for i := range got[0] {
				if math.Float32bits(got[0][i]) != math.Float32bits(got[1][i]) {
					t.Fatalf("number %d is %g on one thread and %g on three", i, got[0][i], got[1][i])
				}
			}
		})
	}
}
