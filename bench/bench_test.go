package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// model opens a family's folder, written once to $EURYALE_MODELS or, without it, the temporary folder.
func model(b *testing.B, family string) *loader.Model {
	b.Helper()
	root := os.Getenv("EURYALE_MODELS")
	if root == "" {
		root = filepath.Join(os.TempDir(), "euryale-models")
	}
	dir := filepath.Join(root, family)
	if _, err := os.Stat(dir); err != nil {
		b.Logf("writing %s", dir)
		if err := os.MkdirAll(root, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := (Folder{Family: family, DType: dtype.F16, Seed: 1}).Write(dir); err != nil {
			b.Fatal(err)
		}
	}
	m, err := loader.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

// builder adds a component to a graph and returns what it computes.
type builder func(s layers.Scope, config []byte) (*G.Node, error)

// unetStep is a step with guidance for pictures of size by size pixels.
func unetStep(size int) builder {
	return func(s layers.Scope, config []byte) (*G.Node, error) {
		cfg, err := unet.ParseConfig("config.json", config)
		if err != nil {
			return nil, err
		}
		return unet.Build(s, cfg, unet.NewInputs(s, cfg, 2, size/8, size/8, 77))
	}
}

// decode is the VAE's decoder for a picture of size by size pixels.
func decode(size int) builder {
	return func(s layers.Scope, config []byte) (*G.Node, error) {
		cfg, err := vae.ParseConfig("config.json", config)
		if err != nil {
			return nil, err
		}
		return vae.Decode(s, cfg, s.Input("latents", G.Float32, 1, size/8, size/8, 4))
	}
}

// network compiles one component and binds noise to its inputs.
func network(b *testing.B, family, component string, build builder, opts ...graphs.Option) *graphs.VM {
	b.Helper()
	m := model(b, family)
	c, err := m.Component(component)
	if err != nil {
		b.Fatal(err)
	}
	_, config, err := c.Config()
	if err != nil {
		b.Fatal(err)
	}
	w, err := c.Weights()
	if err != nil {
		b.Fatal(err)
	}
	g := G.NewGraph()
	out, err := build(layers.NewScope(g, component, w), config)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range g.Inputs() {
		if _, ok := w.Info(n.Name()[len(component)+1:]); ok {
			continue
		}
		var data any
		if n.Dtype() == tensor.Int32 {
			data = make([]int32, n.Shape().TotalSize())
		} else {
			x := make([]float32, n.Shape().TotalSize())
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			data = x
		}
		if err := G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(data))); err != nil {
			b.Fatal(err)
		}
	}
	vm, err := graphs.NewVM(g, append(opts, graphs.WithModel(m), graphs.WithOutputs(out))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { vm.Close() })
	return vm
}

// run times a compiled network, its weights loaded, and reports what it takes and the share of the FMA peak.
func run(b *testing.B, vm *graphs.VM) {
	b.Helper()
	if err := vm.RunAll(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := vm.RunAll(); err != nil {
			b.Fatal(err)
		}
	}
	s := vm.Stats()
	rate(b, float64(s.FLOPs))
	b.ReportMetric(mib(s.ArenaBytes+s.WeightBytes), "peak-MiB")
	b.ReportMetric(float64(s.ArenaBytes)/float64(s.BoundBytes), "arena/bound")
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

// rate reports GFLOP/s and their share of the peak, which is measured right after.
func rate(b *testing.B, flops float64) {
	got := flops * float64(b.N) / b.Elapsed().Seconds() / 1e9
	b.StopTimer()
	p := cpu.NewPool(0)
	defer p.Close()
	b.ReportMetric(got, "GFLOP/s")
	b.ReportMetric(got/p.PeakFMA(), "of-peak")
}

func BenchmarkUNetStep(b *testing.B) {
	b.Run("model=sd15/size=512/batch=2", func(b *testing.B) { run(b, network(b, "sd15", "unet", unetStep(512))) })
}

func BenchmarkVAEDecode(b *testing.B) {
	b.Run("model=sd15/size=512/batch=1", func(b *testing.B) { run(b, network(b, "sd15", "vae", decode(512))) })
}

func BenchmarkTextEncode(b *testing.B) {
	b.Run("model=sd15/batch=2", func(b *testing.B) {
		run(b, network(b, "sd15", "text_encoder", func(s layers.Scope, config []byte) (*G.Node, error) {
			cfg, err := textenc.ParseConfig("config.json", config)
			if err != nil {
				return nil, err
			}
			out, _, err := textenc.Build(s, cfg, textenc.NewInputs(s, 2, 77, false), textenc.Options{Norm: true})
			return out, err
		}))
	})
}

// BenchmarkLoad opens a model and lays out all weights of its UNet.
func BenchmarkLoad(b *testing.B) {
	b.Run("model=sd15/component=unet", func(b *testing.B) {
		bytes := 0
		for b.Loop() {
			vm := network(b, "sd15", "unet", func(s layers.Scope, config []byte) (*G.Node, error) {
				cfg, err := unet.ParseConfig("config.json", config)
				if err != nil {
					return nil, err
				}
				return unet.Build(s, cfg, unet.NewInputs(s, cfg, 1, 8, 8, 8))
			})
			if err := vm.RunAll(); err != nil {
				b.Fatal(err)
			}
			bytes = vm.Stats().WeightBytes
		}
		b.SetBytes(int64(bytes))
		b.ReportMetric(mib(bytes), "weights-MiB")
	})
}

func BenchmarkGEMM(b *testing.B) {
	for _, s := range []struct{ m, n, k int }{{4096, 320, 320}, {1024, 640, 640}, {256, 1280, 1280}, {4096, 2560, 320}, {154, 768, 768}, {2048, 2048, 2048}} {
		b.Run(fmt.Sprintf("m=%d/n=%d/k=%d", s.m, s.n, s.k), func(b *testing.B) {
			p := cpu.NewPool(0)
			defer p.Close()
			w := panels(s.n, s.k)
			x, y := noise(s.m*s.k), make([]float32, s.m*s.n)
			for b.Loop() {
				p.Linear(y, x, s.m, w, cpu.Epilogue{})
			}
			rate(b, 2*float64(s.m)*float64(s.n)*float64(s.k))
		})
	}
}

func BenchmarkConv(b *testing.B) {
	for _, s := range []struct{ in, out, side int }{{320, 320, 64}, {640, 640, 32}, {1280, 1280, 16}, {1280, 1280, 8}, {512, 512, 64}, {128, 128, 512}} {
		b.Run(fmt.Sprintf("in=%d/out=%d/side=%d", s.in, s.out, s.side), func(b *testing.B) {
			p := cpu.NewPool(0)
			defer p.Close()
			shape := cpu.ConvShape{B: 1, H: s.side, W: s.side, Cin: s.in, Cout: s.out, KH: 3, KW: 3, Stride: 1, Upsample: 1,
				PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}
			w := panels(s.out, 9*s.in)
			x, y := noise(s.side*s.side*s.in), make([]float32, s.side*s.side*s.out)
			for b.Loop() {
				p.Conv(y, x, shape, w, cpu.Epilogue{})
			}
			rate(b, 18*float64(s.side*s.side)*float64(s.in)*float64(s.out))
		})
	}
}

func BenchmarkAttention(b *testing.B) {
	for _, s := range []struct{ b, sq, skv, heads, d int }{{2, 4096, 4096, 8, 40}, {2, 1024, 1024, 8, 80}, {2, 4096, 77, 8, 40}, {1, 4096, 4096, 1, 512}} {
		b.Run(fmt.Sprintf("b=%d/sq=%d/skv=%d/heads=%d/d=%d", s.b, s.sq, s.skv, s.heads, s.d), func(b *testing.B) {
			p := cpu.NewPool(0)
			defer p.Close()
			c := s.heads * s.d
			q, k, v, y := noise(s.b*s.sq*c), noise(s.b*s.skv*c), noise(s.b*s.skv*c), make([]float32, s.b*s.sq*c)
			shape := cpu.AttentionShape{B: s.b, Sq: s.sq, Skv: s.skv, Heads: s.heads, D: s.d, Scale: 0.1}
			for b.Loop() {
				p.Attention(y, q, k, v, shape)
			}
			rate(b, 4*float64(s.b*s.heads*s.d)*float64(s.sq)*float64(s.skv))
		})
	}
}

// What UNets do without: convolutions in groups, with a dilation, over sequences; pools; attention of shared heads
// with a bias.
func BenchmarkGeneralForms(b *testing.B) {
	p := cpu.NewPool(0)
	defer p.Close()
	image := cpu.Window{B: 1, H: 64, W: 64, C: 320, KH: 3, KW: 3, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1,
		PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}
	far := image
	far.DilationH, far.DilationW, far.PadTop, far.PadLeft, far.PadBottom, far.PadRight = 2, 2, 2, 2, 2, 2
	sequence := cpu.Window{B: 1, H: 1, W: 4096, C: 320, KH: 1, KW: 9, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1,
		PadLeft: 4, PadRight: 4}
	x, y := noise(4096*320), make([]float32, 4096*320)
	for _, c := range []struct {
		name   string
		s      cpu.Window
		groups int
	}{
		{"dilation", far, 1}, {"sequence", sequence, 1}, {"groups=4", image, 4}, {"groups=32", image, 32},
		{"depthwise", image, 320},
	} {
		b.Run("conv="+c.name, func(b *testing.B) {
			w := panels(320, 9*320/c.groups)
			for b.Loop() {
				p.ConvWindow(y, x, c.s, w, c.groups, nil)
			}
			rate(b, 18*4096*320*320/float64(c.groups))
		})
	}
	for name, pool := range map[string]func(out, in []float32, s cpu.Window){"max": p.MaxPool, "average": p.AveragePool} {
		b.Run("pool="+name, func(b *testing.B) {
			b.SetBytes(4 * 4096 * 320)
			for b.Loop() {
				pool(y, x, image)
			}
		})
	}
	q, k, out := noise(1024*32*128), noise(1024*8*128), make([]float32, 1024*32*128)
	for name, bias := range map[string]cpu.AttentionBias{
		"none": {}, "positions": {Data: noise(32 * 1024 * 1024), Head: 1024 * 1024, Row: 1024},
	} {
		b.Run("attention/heads=32/kv=8/d=128/bias="+name, func(b *testing.B) {
			s := cpu.AttentionShape{B: 1, Sq: 1024, Skv: 1024, Heads: 32, KVHeads: 8, D: 128, Scale: 0.1, Bias: bias}
			for b.Loop() {
				p.Attention(out, q, k, k, s)
			}
			rate(b, 4*32*128*1024*1024)
		})
	}
}

// panels are weights as a float16 checkpoint gives them.
func panels(n, k int) cpu.Panels {
	raw := make([]byte, 2*n*k)
	for i, v := range noise(n * k) {
		h := dtype.F32ToF16(v)
		raw[2*i], raw[2*i+1] = byte(h), byte(h>>8)
	}
	p := cpu.Panels{Data: make([]byte, cpu.PanelBytes(n, k, dtype.F16)), DType: dtype.F16, N: n, K: k}
	cpu.PackLinear(p.Data, raw, dtype.F16, n, k)
	return p
}

func noise(n int) []float32 {
	rng := rand.New(rand.NewPCG(2, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}
