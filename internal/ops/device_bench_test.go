package ops

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

type deviceShape struct {
	name string
	kind op.Kind
	in   []tensor.Shape
}

// deviceShapes are products, convolutions and attention as SD 1.5 at 512 and SDXL at 1024 pixels have them, with
// guidance, and attention of transformers.
var deviceShapes = []deviceShape{
	{"sd15 to_q 64x64", Linear{Bias: true}, shapes("8192 320", "320 320", "320")},
	{"sd15 ff 64x64", Linear{Bias: true, Act: op.GEGLU}, shapes("8192 320", "2560 320", "2560")},
	{"sd15 ff out 32x32", Linear{Bias: true}, shapes("2048 2560", "640 2560", "640")},
	{"sdxl ff 32x32", Linear{Bias: true, Act: op.GEGLU}, shapes("2048 1280", "10240 1280", "10240")},
	{"sdxl ff out 32x32", Linear{Bias: true}, shapes("2048 5120", "1280 5120", "1280")},
	{"sdxl to_q 32x32", Linear{}, shapes("2048 1280", "1280 1280")},
	{"sdxl to_q 64x64", Linear{Bias: true}, shapes("8192 640", "640 640", "640")},
	{"sd15 conv 64x64", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("2 64 64 320", "320 320 3 3", "320")},
	{"sd15 conv 32x32", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("2 32 32 640", "640 640 3 3", "640")},
	{"sd15 conv 16x16", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("2 16 16 1280", "1280 1280 3 3", "1280")},
	{"sd15 conv 8x8", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("2 8 8 1280", "1280 1280 3 3", "1280")},
	{"sdxl conv 128x128", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("2 128 128 320", "320 320 3 3", "320")},
	{"sdxl conv 32x32", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("2 32 32 1280", "1280 1280 3 3", "1280")},
	{"vae conv 512x512", Conv{Stride: 1, Up: 1, Pad: Padding{1, 1, 1, 1}}, shapes("1 512 512 256", "256 256 3 3", "256")},
	{"sd15 attention 64x64", Attention{Heads: 8}, shapes("2 4096 320", "2 4096 320", "2 4096 320")},
	{"sdxl attention 64x64", Attention{Heads: 10}, shapes("2 4096 640", "2 4096 640", "2 4096 640")},
	{"sdxl attention 32x32", Attention{Heads: 20}, shapes("2 1024 1280", "2 1024 1280", "2 1024 1280")},
	{"vae attention 64x64", Attention{Heads: 1}, shapes("1 4096 512", "1 4096 512", "1 4096 512")},
	{"flux attention 1024 pixels", Attention{Heads: 24}, shapes("1 4608 3072", "1 4608 3072", "1 4608 3072")},
	{"qwen3 attention 512 tokens", Attention{Heads: 32, KVHeads: 8, Causal: true},
		shapes("1 512 4096", "1 512 1024", "1 512 1024")},
	{"t5 attention 512 tokens", Attention{Heads: 64, Scale: 1, Bias: true},
		shapes("1 512 4096", "1 512 4096", "1 512 4096", "64 512 512")},
	{"depthwise conv 64x64", convOf(Window{Kernel: Square(3), Pad: Padding{1, 1, 1, 1}}, 640),
		shapes("2 64 64 640", "640 1 3 3", "640")},
	{"conv with a dilation 64x64", convOf(Window{Kernel: Square(3), Dilation: Square(2), Pad: Padding{2, 2, 2, 2}}, 1),
		shapes("2 64 64 320", "320 320 3 3", "320")},
	{"sd15 group norm 64x64", GroupNorm{Groups: 32, Eps: 1e-5, SiLU: true}, shapes("2 64 64 320", "320", "320")},
	{"vae group norm 512x512", GroupNorm{Groups: 32, Eps: 1e-6, SiLU: true}, shapes("1 512 512 256", "256", "256")},
	{"sdxl layer norm 32x32", LayerNorm{Eps: 1e-5}, shapes("2 1024 1280", "1280", "1280")},

	// The blocks of Z-Image at 1024 pixels.
	{"z-image modulate", elem.Modulate{Scale: 2, Shift: elem.NoPart}, shapes("1 4096 3840", "1 15360")},
	{"z-image add gated", elem.AddGated{Gate: 1}, shapes("1 4096 3840", "1 4096 3840", "1 15360")},
	{"z-image rms norm", RMSNorm{Heads: 1, Eps: 1e-5, Weight: true}, shapes("1 4096 3840", "3840")},
	{"z-image rms norm of heads", RMSNorm{Heads: 30, Eps: 1e-5, Weight: true}, shapes("1 4096 3840", "128")},
	{"z-image rotary", elem.Rotary{Heads: 30}, shapes("1 4096 3840", "4096 64", "4096 64")},
	{"z-image rotary of halves", elem.Rotary{Heads: 30, Halves: true}, shapes("1 4096 3840", "4096 64", "4096 64")},
	{"z-image gated", elem.Gated{Act: op.SiLU}, shapes("1 4096 10240", "1 4096 10240")},
	{"flux gelu by tanh", elem.Activate{Act: op.GELUTanh}, shapes("1 4096 12288")},
	{"flux.2 swiglu", elem.GatedHalves{Act: op.SiLU, GateFirst: true}, shapes("1 4096 18432")},
	{"permute of heads", elem.Permute{Dims: 4, Order: [8]int{0, 2, 1, 3}}, shapes("1 4096 30 128")},
	{"permute to channels first", elem.Permute{Dims: 3, Order: [8]int{0, 2, 1}}, shapes("1 4096 3840")},
}

// benchDevice opens a GPU. Arguments are noise: a GPU takes less power for zeros, and is faster.
func benchDevice(b *testing.B) device.Device {
	dev := cudaDevice(b)
	if strings.Contains(dev.Name(), "TEST STAND-IN") {
		b.Skip("the stand-in driver is not measured")
	}
	return dev
}

// time reports what the launches take: TFLOP/s where there are products, and GB/s of what the least must read and write.
func (r *deviceRun) time(b *testing.B, k op.Kind, s []tensor.Shape,
	of func(out device.Arg, in []device.Arg) ([]device.Kernel, error)) {
	bytes := 0
	var in []device.Arg
	for i, v := range arguments(s, k, 0) {
		t := dtype.F16
		if k.Float(i) {
			t = dtype.F32
		}
		in = append(in, r.put(program.Arg{Shape: s[i], DType: dtype.F32, Data: program.Bytes(v.Data().([]float32))}, t))
		bytes += s[i].TotalSize() * t.Size()
	}
	shape, err := k.Infer(s)
	r.must(err)
	out := device.Arg{Shape: shape, DType: dtype.F16, Ptr: r.alloc(2 * shape.TotalSize())}
	bytes += 2 * shape.TotalSize()
	kernels, err := of(out, in)
	r.must(err)
	per := r.each(b, kernels)
	b.ReportMetric(float64(k.FLOPs(shape, s))/per/1e12, "TFLOP/s")
	b.ReportMetric(float64(bytes)/per/1e9, "GB/s")
	b.ReportMetric(per*1e6, "us/op")
}

// each is the seconds that launches take on the device, one after the other: the median over b.N of twenty in a graph.
func (r *deviceRun) each(b *testing.B, kernels []device.Kernel) float64 {
	const times = 20
	var all []*device.Kernel
	for range times {
		for i := range kernels {
			all = append(all, &kernels[i])
		}
	}
	g, err := r.dev.Capture(all)
	r.must(err)
	begin, err := r.dev.NewEvent()
	r.must(err)
	end, err := r.dev.NewEvent()
	r.must(err)
	var took []float64
	for b.Loop() {
		r.must(r.dev.Record(begin, device.Compute))
		r.must(r.dev.LaunchGraph(device.Compute, g))
		r.must(r.dev.Record(end, device.Compute))
		r.must(r.dev.Sync(end))
		d, err := r.dev.Elapsed(begin, end)
		r.must(err)
		took = append(took, d.Seconds()/times)
	}
	r.must(errors.Join(r.dev.FreeGraph(g), r.dev.FreeEvent(begin), r.dev.FreeEvent(end)))
	slices.Sort(took)
	return took[len(took)/2]
}

// BenchmarkDevice times the device form of each op at real sizes. EURYALE_SHAPES names a file of other ops, as
// bench/peers/limits.py writes it. The name says whether the kernels of compute capability 9.0 ran: with EURYALE_HOPPER=1
// they do where they take the shape.
func BenchmarkDevice(b *testing.B) {
	dev := benchDevice(b)
	for _, c := range benchmarked(b) {
		kernels := "tensor"
		if strings.HasPrefix(kernelOf(b, dev.Kernels(), c.kind, c.in, dtype.F16), "hopper_") {
			kernels = "hopper"
		}
		b.Run("op="+strings.ReplaceAll(c.name, " ", "-")+"/dtype=f16/kernels="+kernels, func(b *testing.B) {
			r := newDeviceRun(b, dev)
			r.time(b, c.kind, c.in, func(out device.Arg, in []device.Arg) ([]device.Kernel, error) {
				return c.kind.Device(dev.Kernels(), out, in, r.alloc(c.kind.Scratch(dev.Kernels(), out, in)))
			})
		})
	}
}

// benchmarked are deviceShapes, or what EURYALE_SHAPES names.
func benchmarked(b *testing.B) []deviceShape {
	file := os.Getenv("EURYALE_SHAPES")
	if file == "" {
		return deviceShapes
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var list []struct {
		Name            string
		Linear          bool
		In              []string // shapes
		Stride, Padding int
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		b.Fatal(err)
	}
	var all []deviceShape
	for _, l := range list {
		s := deviceShape{name: l.Name, kind: Linear{Bias: true}, in: shapes(l.In...)}
		if p := l.Padding; !l.Linear {
			s.kind = Conv{Stride: l.Stride, Up: 1, Pad: Padding{p, p, p, p}}
		}
		all = append(all, s)
	}
	return all
}

// BenchmarkDeviceTiles times every tile, in one part and in as many as the choice for the shape has, beside that choice:
// what tile.cycles is to be held against.
func BenchmarkDeviceTiles(b *testing.B) {
	dev := benchDevice(b)
	if !dev.Kernels().TensorCore {
		b.Skip("the device has no tensor cores that these kernels use")
	}
	for _, c := range deviceShapes {
		k, ok := c.kind.(product)
		if !ok {
			continue
		}
		shape, err := k.Infer(c.in)
		if err != nil {
			b.Fatal(err)
		}
		n, depth := c.in[1][0], c.in[1].TotalSize()/c.in[1][0]
		best, parts := tiling(op.Rows(shape), n, depth, dev.Kernels().Processors)
		for _, tile := range gemmTiles {
			for _, splits := range slices.Compact([]int{1, parts}) {
				b.Run(fmt.Sprintf("op=%s/tile=%dx%d/parts=%d/chosen=%t", strings.ReplaceAll(c.name, " ", "-"), tile.rows, tile.columns, splits,
					tile == best && splits == parts), func(b *testing.B) {
					r := newDeviceRun(b, dev)
					r.time(b, k, c.in, func(out device.Arg, in []device.Arg) ([]device.Kernel, error) {
						return tiled(nameOf(k), tile, splits, k.params(out, in), out, r.alloc(4*splits*op.Rows(shape)*n)), nil
					})
				})
			}
		}
	}
}
