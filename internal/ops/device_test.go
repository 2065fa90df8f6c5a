package ops

import (
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/euryale-ml/euryale/internal/cuda"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// deviceCases reach what opCases are too small for: whole tiles and their edges, every attention kernel.
var deviceCases = []struct {
	name string
	kind op.Kind
	in   []tensor.Shape
	ids  int
}{
	{"linear of several tiles", Linear{Bias: true, Act: op.GELU}, shapes("130 72", "136 72", "136"), 0},
	{"linear with a gate, several tiles", Linear{Bias: true, Residual: true, Act: op.GEGLU},
		shapes("70 40", "272 40", "272", "70 136"), 0},
	{"linear of an odd width", Linear{}, shapes("9 24", "67 24"), 0},
	{"conv of several tiles",
		Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}, Channels: true, Residual: true, Act: op.SiLU},
		shapes("2 9 8 24", "72 24 3 3", "72", "2 72", "2 9 8 72"), 0},
	{"conv of stride 2, several tiles", Conv{Stride: 2, Up: 1, Pad: Padding{1, 1, 1, 1}},
		shapes("1 18 18 16", "70 16 3 3", "70"), 0},
	{"conv of an enlarged image, several tiles", Conv{Stride: 1, Up: 2, Pad: Padding{1, 1, 1, 1}},
		shapes("1 6 5 40", "8 40 3 3", "8"), 0},
	{"conv to three channels", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("1 5 5 16", "3 16 3 3", "3"), 0},
	{"group norm of many channels", GroupNorm{Groups: 32, Eps: 1e-5, SiLU: true}, shapes("2 40 320", "320", "320"), 0},
	{"group norm of more channels than threads", GroupNorm{Groups: 32, Eps: 1e-5},
		shapes("1 33 2112", "2112", "2112"), 0},
	{"group norm of 8 channels", GroupNorm{Groups: 4, Eps: 1e-5, SiLU: true}, shapes("2 300 8", "8", "8"), 0},
	{"group norm of 40 groups", GroupNorm{Groups: 40, Eps: 1e-5}, shapes("1 19 80", "80", "80"), 0},
	{"group norm of parts of which one is empty", GroupNorm{Groups: 2, Eps: 1e-5}, shapes("1 2100 8", "8", "8"), 0},
	{"layer norm of many channels", LayerNorm{Eps: 1e-5}, shapes("9 320", "320", "320"), 0},
	{"layer norm of an odd number of channels", LayerNorm{Eps: 1e-5}, shapes("9 77", "77", "77"), 0},
	{"group norm of parts of unequal size", GroupNorm{Groups: 2, Eps: 1e-5}, shapes("1 53 6", "6", "6"), 0},

	// What the blocks of transformers add: several blocks of threads, packs of 16 bytes and numbers one by one.
	{"mul of several blocks", elem.Mul{}, shapes("3 70 40", "3 40"), 0},
	{"sub of several blocks, an odd width", elem.Sub{}, shapes("3 70 37", "37"), 0},
	{"modulate of several blocks", elem.Modulate{Scale: 4, Shift: 3}, shapes("2 70 72", "2 432"), 0},
	{"add gated of several blocks", elem.AddGated{Gate: 2}, shapes("2 70 72", "2 70 72", "2 216"), 0},
	{"swiglu of several blocks", elem.GatedHalves{Act: op.SiLU}, shapes("70 144"), 0},
	{"gelu by tanh of several blocks", elem.Activate{Act: op.GELUTanh}, shapes("70 72"), 0},
	{"layer norm of an odd number of channels without weights", LayerNorm{Eps: 1e-6, Bare: true}, shapes("9 77"), 0},
	{"rms norm of many channels", RMSNorm{Heads: 1, Eps: 1e-5, Weight: true}, shapes("9 1000", "1000"), 0},
	{"rms norm of an odd number of channels", RMSNorm{Heads: 1, Eps: 1e-5, Weight: true}, shapes("9 77", "77"), 0},
	{"rms norm of heads of 128", RMSNorm{Heads: 3, Eps: 1e-6, Weight: true}, shapes("2 35 384", "128"), 0},
	{"rms norm of heads of 64, without a weight", RMSNorm{Heads: 5, Eps: 1e-6}, shapes("2 7 320"), 0},
	{"rotary of heads of 128", elem.Rotary{Heads: 3}, shapes("2 35 384", "35 64", "35 64"), 0},
	{"rotary of halves of heads of 128", elem.Rotary{Heads: 3, Halves: true}, shapes("2 35 384", "35 64", "35 64"), 0},
	{"rotary of 32 of 80", elem.Rotary{Heads: 2, Halves: true}, shapes("2 35 160", "35 16", "35 16"), 0},
	{"slice of several blocks", elem.Slice{Dim: 2, From: 64, To: 192}, shapes("2 70 256"), 0},
	{"permute of several blocks", elem.Permute{Dims: 4, Order: [8]int{0, 2, 1, 3}}, shapes("2 33 5 64"), 0},
	{"permute of several blocks, the last dimension", elem.Permute{Dims: 3, Order: [8]int{0, 2, 1}}, shapes("2 70 72"), 0},

	{"attention of heads of 40", Attention{Heads: 2}, shapes("2 70 80", "2 77 80", "2 77 80"), 0},
	{"attention of heads of 64, causal", Attention{Heads: 2, Causal: true},
		shapes("1 77 128", "1 77 128", "1 77 128"), 0},
	{"attention of heads of 40, causal, several tiles", Attention{Heads: 2, Causal: true},
		shapes("1 150 80", "1 150 80", "1 150 80"), 0},
	{"attention of heads of 64, several tiles", Attention{Heads: 1}, shapes("2 129 64", "2 200 64", "2 200 64"), 0},
	{"attention of heads of 80, causal", Attention{Heads: 1, Causal: true},
		shapes("1 140 80", "1 140 80", "1 140 80"), 0},
	{"attention of heads of 160, causal", Attention{Heads: 1, Causal: true},
		shapes("1 70 160", "1 70 160", "1 70 160"), 0},
	{"attention of heads of 80", Attention{Heads: 1}, shapes("1 20 80", "1 130 80", "1 130 80"), 0},
	{"attention of heads of 160", Attention{Heads: 1}, shapes("1 64 160", "1 77 160", "1 77 160"), 0},
	{"attention of heads of 512", Attention{Heads: 1}, shapes("1 40 512", "1 40 512", "1 40 512"), 0},
	{"attention of heads of 100", Attention{Heads: 2}, shapes("1 33 200", "1 35 200", "1 35 200"), 0},

	{"attention of heads of 128", Attention{Heads: 2}, shapes("2 130 256", "2 77 256", "2 77 256"), 0},
	{"attention of heads of 128, causal", Attention{Heads: 1, Causal: true},
		shapes("1 140 128", "1 140 128", "1 140 128"), 0},
	{"shared heads of 128, causal, of a scale", Attention{Heads: 4, KVHeads: 2, Causal: true, Scale: 0.05},
		shapes("2 70 512", "2 70 256", "2 70 256"), 0},
	{"shared heads of 128 with lengths", Attention{Heads: 3, KVHeads: 1, Lengths: true},
		shapes("6 33 384", "6 50 128", "6 50 128", "6"), 51},
	{"heads of 128 with a bias", Attention{Heads: 2, Bias: true},
		shapes("2 35 256", "2 67 256", "2 67 256", "2 2 35 67"), 0},
	{"heads of 64 with a bias of positions", Attention{Heads: 3, Bias: true, Scale: 0.2},
		shapes("2 131 192", "2 131 192", "2 131 192", "3 131 131"), 0},
	{"heads of 64 with a mask of keys", Attention{Heads: 2, KVHeads: 1, Bias: true},
		shapes("3 20 128", "3 150 64", "3 150 64", "3 1 1 150"), 0},
	{"heads of 64 with everything", Attention{Heads: 2, KVHeads: 1, Causal: true, Bias: true, Lengths: true},
		shapes("3 135 128", "3 135 64", "3 135 64", "1 2 135 135", "3"), 136},
	{"shared heads of 160 with a bias", Attention{Heads: 2, KVHeads: 1, Bias: true},
		shapes("1 40 320", "1 45 160", "1 45 160", "1 1 40 45"), 0},
	{"heads of 200 with lengths", Attention{Heads: 2, Lengths: true}, shapes("4 5 400", "4 40 400", "4 40 400", "4"), 41},
	{"conv of a sequence, several tiles",
		convOf(Window{Kernel: HW{1, 7}, Stride: HW{1, 2}, Pad: Padding{Left: 3, Right: 3}}, 1),
		shapes("2 150 16", "72 16 7", "72"), 0},
	{"conv without bias, several tiles", ConvWindow{Window: unit(Window{Kernel: HW{2, 3}}), Groups: 1},
		shapes("1 9 12 24", "72 24 2 3"), 0},
	{"conv with a dilation, several tiles",
		convOf(Window{Kernel: Square(3), Dilation: Square(2), Pad: Padding{2, 2, 2, 2}}, 1),
		shapes("1 9 8 24", "72 24 3 3", "72"), 0},
	{"conv of groups, several tiles", convOf(Window{Kernel: Square(3), Stride: HW{1, 2}, Pad: Padding{1, 1, 1, 1}}, 2),
		shapes("1 9 17 12", "140 6 3 3", "140"), 0},
	{"global average of many pixels", AdaptiveAverage{H: 1, W: 1}, shapes("1 70 65 9"), 0},
}

// The device form of every op gives what its definition gives for arguments of the device's type.
func TestDeviceFormsAgreeWithDefinitions(t *testing.T) {
	dev := cudaDevice(t)
	for _, c := range append(opCases, deviceCases...) {
		for typ, most := range map[dtype.Type]float64{dtype.F32: 1e-6, dtype.F16: 2e-3, dtype.BF16: 1.5e-2} {
			t.Run(fmt.Sprintf("%s/%v", c.name, typ), func(t *testing.T) { agree(t, dev, c.kind, c.in, c.ids, typ, most) })
		}
	}
}

// A result that takes over an argument's memory is the same to the bit.
func TestDeviceFormsInPlace(t *testing.T) {
	dev := cudaDevice(t)
	for _, c := range append(opCases, deviceCases...) {
		for _, place := range c.kind.InPlace() {
			for _, typ := range []dtype.Type{dtype.F32, dtype.F16, dtype.BF16} {
				t.Run(fmt.Sprintf("%s/%d/%v", c.name, place, typ), func(t *testing.T) {
					r := newDeviceRun(t, dev)
					in, want := r.arguments(c.kind, c.in, c.ids, typ)
					shape := want.Shape()
					if shape.TotalSize() != in[place].Shape.TotalSize() || in[place].DType != typ || c.kind.FloatResult() {
						return // is not taken over
					}
					apart := r.run(op.Op{Kind: c.kind}, shape, typ, in)
					over := device.Arg{Shape: shape, DType: typ, Ptr: in[place].Ptr}
					if d := relL2(r.runAt(op.Op{Kind: c.kind}, over, in), apart); d != 0 {
						t.Errorf("in the place of argument %d the result differs by %g", place, d)
					}
				})
			}
		}
	}
}

func TestDeviceMaxPoolKeepsNaN(t *testing.T) {
	dev := cudaDevice(t)
	k := Pool{Window: unit(Window{Kernel: HW{1, 3}})}
	for at := range 3 {
		for _, typ := range []dtype.Type{dtype.F32, dtype.F16, dtype.BF16} {
			x := []float32{1, 2, 3}
			x[at] = float32(math.NaN())
			r := newDeviceRun(t, dev)
			in := r.put(program.Arg{Shape: tensor.Shape{1, 3, 1}, DType: dtype.F32, Data: program.Bytes(x)}, typ)
			if got := r.run(op.Op{Kind: k}, tensor.Shape{1, 1, 1}, typ, []device.Arg{in}); got[0] == got[0] {
				t.Errorf("%v: a window with NaN at place %d gives %g", typ, at, got[0])
			}
		}
	}
}

// product is an op that tiles compute.
type product interface {
	op.Kind
	params(out device.Arg, in []device.Arg) *gemmParams
}

func nameOf(k product) string {
	if _, ok := k.(Conv); ok {
		return "conv"
	}
	return "linear"
}

// agree compares the device form of an op in type typ with its definition.
func agree(t *testing.T, dev device.Device, k op.Kind, shapes []tensor.Shape, ids int, typ dtype.Type, most float64) {
	t.Helper()
	r := newDeviceRun(t, dev)
	in, want := r.arguments(k, shapes, ids, typ)
	got := r.run(op.Op{Kind: k}, want.Shape(), typ, in)
	if d := relL2(got, want.Data().([]float32)); !(d <= most) {
		t.Errorf("device form and definition differ by %g, at most %g is expected", d, most)
	} else {
		t.Logf("device form and definition differ by %.2g", d)
	}
}

// Every tile, in one part and in several, gives what the definition gives: products whose sizes are no multiples of the
// tile's, with every epilogue, and convolutions of every geometry.
func TestDeviceTilesAgreeWithDefinitions(t *testing.T) {
	dev := cudaDevice(t)
	if !dev.Kernels().TensorCore {
		t.Skip("the device has no tensor cores that these kernels use")
	}
	pad := Padding{1, 1, 1, 1}
	for _, c := range []struct {
		name  string
		kind  product
		in    []tensor.Shape
		split bool // rows of the result are aligned
	}{
		{"linear", Linear{Bias: true, Act: op.GELU}, shapes("70 200", "168 200", "168"), true},
		{"linear of one row", Linear{Bias: true, Act: op.SiLU}, shapes("1 136", "8 136", "8"), true},
		{"linear of an odd width", Linear{Bias: true, Residual: true, Act: op.QuickGELU},
			shapes("67 72", "13 72", "13", "67 13"), false},
		{"linear with a residual", Linear{Residual: true}, shapes("65 104", "24 104", "65 24"), true},
		{"linear with a gate", Linear{Bias: true, Residual: true, Act: op.GEGLU},
			shapes("66 72", "176 72", "176", "66 88"), true},
		{"linear with a gate, halves of 4", Linear{Bias: true, Act: op.GEGLU}, shapes("9 40", "24 40", "24"), true},
		{"conv with everything", Conv{Stride: 1, Up: 1, Pad: pad, Channels: true, Residual: true, Act: op.SiLU},
			shapes("2 7 5 40", "24 40 3 3", "24", "2 24", "2 7 5 24"), true},
		{"conv of stride 2", Conv{Stride: 2, Up: 1, Pad: Padding{0, 0, 1, 1}}, shapes("3 6 7 32", "16 32 3 3", "16"), true},
		{"conv of an enlarged image", Conv{Stride: 1, Up: 2, Pad: pad}, shapes("1 5 4 8", "8 8 3 3", "8"), true},
		{"conv of 64 channels", Conv{Stride: 1, Up: 1, Pad: pad, Residual: true},
			shapes("1 9 8 64", "40 64 3 3", "40", "1 9 8 40"), true},
	} {
		for _, tile := range gemmTiles {
			for _, splits := range []int{1, 2, 5} {
				if splits > 1 && !c.split {
					continue
				}
				for typ, most := range map[dtype.Type]float64{dtype.F32: 1e-3, dtype.F16: 2e-3, dtype.BF16: 1.5e-2} {
					t.Run(fmt.Sprintf("%s/%dx%d/%d/%v", c.name, tile.rows, tile.columns, splits, typ), func(t *testing.T) {
						r := newDeviceRun(t, dev)
						in, want := r.arguments(c.kind, c.in, 0, typ)
						size := 4 * splits * op.Rows(want.Shape()) * c.in[1][0]
						scratch := r.alloc(size)
						got := r.result(want.Shape(), typ, func(out device.Arg) ([]device.Kernel, error) {
							return tiled(nameOf(c.kind), tile, splits, c.kind.params(out, in), out, scratch), nil
						})
						if d := relL2(got, want.Data().([]float32)); !(d <= most) {
							t.Errorf("device form and definition differ by %g, at most %g is expected", d, most)
						}
					})
				}
			}
		}
	}
}

// taps is a filter as kernels read it.
func taps(a program.Arg) []byte {
	w := a.F32()
	s := a.Shape
	out := make([]float32, 0, len(w))
	for o := range s[0] {
		taps := s[2:].TotalSize()
		for tap := range taps {
			for c := range s[1] {
				out = append(out, w[(o*s[1]+c)*taps+tap])
			}
		}
	}
	return program.Bytes(out)
}

// cudaDevice opens a GPU, or skips; with GPU=1 that there is none is a failure.
func cudaDevice(t testing.TB) device.Device {
	dev, err := cuda.Open(0)
	if err != nil {
		if os.Getenv("GPU") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Logf("on %s", dev.Name())
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// deviceRun is one op on a device.
type deviceRun struct {
	t   testing.TB
	dev device.Device
	mem *hostmem.Memory
}

func newDeviceRun(t testing.TB, dev device.Device) *deviceRun {
	mem := hostmem.New(hostmem.NewBudget(0))
	t.Cleanup(mem.Close)
	return &deviceRun{t, dev, mem}
}

func (r *deviceRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// put copies an argument to the device in type as, and rounds the argument to it.
func (r *deviceRun) put(a program.Arg, as dtype.Type) device.Arg {
	n := a.Shape.TotalSize() * as.Size()
	buf := r.locked(n)
	if a.DType == dtype.I32 {
		copy(buf, a.Data)
	} else {
		dtype.FromF32(buf, as, a.F32())
		dtype.ToF32(a.F32(), buf, as)
	}
	p := r.alloc(n)
	r.must(r.dev.CopyIn(device.Compute, p, buf[:n]))
	return device.Arg{Shape: a.Shape, DType: as, Ptr: p}
}

// arguments puts arguments of a kind on the device, in type typ where the kernels read it, and returns what the
// definition makes of them.
func (r *deviceRun) arguments(k op.Kind, s []tensor.Shape, ids int, typ dtype.Type) (in []device.Arg, want G.Value) {
	vals := arguments(s, k, ids)
	for i, v := range vals {
		a := program.Arg{Shape: v.Shape(), DType: dtype.F32}
		if ids, ok := v.Data().([]int32); ok {
			a.DType, a.Data = dtype.I32, program.Bytes(ids)
			in = append(in, r.put(a, a.DType))
			continue
		}
		a.Data = program.Bytes(v.Data().([]float32))
		stored := typ
		if k.Float(i) {
			stored = dtype.F32
		}
		in = append(in, r.put(a, stored)) // and rounds a
		if k.DeviceLayout(i) == program.Taps {
			in[i] = r.put(program.Arg{Shape: a.Shape, DType: dtype.F32, Data: taps(a)}, stored)
		}
	}
	want, err := op.Op{Kind: k}.Do(vals...)
	r.must(err)
	return in, want
}

func (r *deviceRun) alloc(n int) device.Ptr {
	p, err := r.dev.Alloc(max(n, 1))
	r.must(err)
	r.t.Cleanup(func() { r.must(r.dev.Free(p)) })
	return p
}

// locked is memory that copies may use. It is of a size that is never of the Go heap.
func (r *deviceRun) locked(n int) []byte {
	buf, err := r.mem.Alloc(max(n, 1<<16))
	r.must(err)
	r.must(r.dev.Lock(buf))
	r.t.Cleanup(func() { r.must(r.dev.Unlock(buf)) })
	return buf
}

// sync waits for what was issued.
func (r *deviceRun) sync() {
	done, err := r.dev.NewEvent()
	r.must(err)
	r.must(r.dev.Record(done, device.Compute))
	r.must(r.dev.Sync(done))
	r.must(r.dev.FreeEvent(done))
}

// run computes the op on the device and returns its result.
func (r *deviceRun) run(o op.Op, shape tensor.Shape, typ dtype.Type, in []device.Arg) []float32 {
	if o.FloatResult() {
		typ = dtype.F32
	}
	return r.runAt(o, r.place(shape, typ), in)
}

// runAt is run in a place given.
func (r *deviceRun) runAt(o op.Op, out device.Arg, in []device.Arg) []float32 {
	return r.resultAt(out, func(out device.Arg) ([]device.Kernel, error) {
		return o.Device(r.dev.Kernels(), out, in, r.alloc(o.Scratch(r.dev.Kernels(), out, in)))
	})
}

func (r *deviceRun) place(shape tensor.Shape, typ dtype.Type) device.Arg {
	return device.Arg{Shape: shape, DType: typ, Ptr: r.alloc(shape.TotalSize() * typ.Size())}
}

// result is what the kernels write.
func (r *deviceRun) result(shape tensor.Shape, typ dtype.Type, kernelsOf func(out device.Arg) ([]device.Kernel, error)) []float32 {
	return r.resultAt(r.place(shape, typ), kernelsOf)
}

func (r *deviceRun) resultAt(out device.Arg, kernelsOf func(out device.Arg) ([]device.Kernel, error)) []float32 {
	shape, typ := out.Shape, out.DType
	n := shape.TotalSize() * typ.Size()
	kernels, err := kernelsOf(out)
	r.must(err)
	for i := range kernels {
		r.must(r.dev.Launch(device.Compute, &kernels[i]))
	}
	buf := r.locked(n)
	r.must(r.dev.CopyOut(device.Compute, buf[:n], out.Ptr))
	r.sync()
	got := make([]float32, shape.TotalSize())
	dtype.ToF32(got, buf, typ)
	return got
}
