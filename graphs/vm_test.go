package graphs_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// fill binds seeded values to every leaf of the graph: about 1/sqrt(n) for matrices, so that activations keep
// their size.
func fill(t *testing.T, g *G.ExprGraph) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	for _, n := range g.Inputs() {
		if n.Value() != nil {
			continue
		}
		size := n.Shape().TotalSize()
		scale, shift := 1.0, 0.0
		switch {
		case n.Dims() > 1 && strings.HasSuffix(n.Name(), "weight"):
			scale = 1 / math.Sqrt(float64(size/n.Shape()[0]))
		case strings.HasSuffix(n.Name(), "weight"):
			scale, shift = 0.1, 1
		}
		data := make([]float32, size)
		for i := range data {
			data[i] = float32(rng.NormFloat64()*scale + shift)
		}
		if err := G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(data))); err != nil {
			t.Fatal(err)
		}
	}
}

func letInts(t *testing.T, n *G.Node, v ...int32) {
	t.Helper()
	if err := G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(v))); err != nil {
		t.Fatal(err)
	}
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

var vmCases = []struct {
	name  string
	build func(t *testing.T, g *G.ExprGraph) []*G.Node
}{
	{"unet", func(t *testing.T, g *G.ExprGraph) []*G.Node {
		cfg, err := unet.ParseConfig("config.json", []byte(`{"block_out_channels": [16, 32], "layers_per_block": 1,
			"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
			"attention_head_dim": [2, 4], "cross_attention_dim": 24, "norm_num_groups": 4, "use_linear_projection": true,
			"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 60}`))
		if err != nil {
			t.Fatal(err)
		}
		s := layers.NewScope(g, "unet", layers.Declared{})
		out, err := unet.Build(s, cfg, unet.NewInputs(s, cfg, 2, 7, 5, 6))
		if err != nil {
			t.Fatal(err)
		}
		return []*G.Node{out}
	}},
	{"vae decoder", func(t *testing.T, g *G.ExprGraph) []*G.Node {
		cfg := smallVAE(t)
		s := layers.NewScope(g, "vae", layers.Declared{})
		out, err := vae.Decode(s, cfg, s.Input("latents", G.Float32, 1, 5, 6, 4))
		if err != nil {
			t.Fatal(err)
		}
		return []*G.Node{out}
	}},
	{"vae encoder", func(t *testing.T, g *G.ExprGraph) []*G.Node {
		cfg := smallVAE(t)
		s := layers.NewScope(g, "vae", layers.Declared{})
		out, err := vae.Encode(s, cfg, s.Input("sample", G.Float32, 2, 10, 8, 3))
		if err != nil {
			t.Fatal(err)
		}
		return []*G.Node{out}
	}},
	{"text encoder, two outputs", func(t *testing.T, g *G.ExprGraph) []*G.Node {
		cfg, err := textenc.ParseConfig("config.json", []byte(`{"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64,
			"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 9, "projection_dim": 20}`))
		if err != nil {
			t.Fatal(err)
		}
		s := layers.NewScope(g, "text_encoder", layers.Declared{})
		in := textenc.NewInputs(s, 2, 7, true)
		hidden, pooled, err := textenc.Build(s, cfg, in, textenc.Options{Skip: 1, Projection: true})
		if err != nil {
			t.Fatal(err)
		}
		letInts(t, in.IDs, 0, 4, 9, 49, 49, 49, 49, 1, 2, 3, 4, 5, 6, 49)
		letInts(t, in.Pooled, 3, 6)
		return []*G.Node{hidden, pooled}
	}},
	{"layers and plain Gorgonia operations", func(t *testing.T, g *G.ExprGraph) []*G.Node {
		s := layers.NewScope(g, "custom", layers.Declared{})
		x := s.Input("x", G.Float32, 3, 8)
		h := s.On(x).Linear("fc1", 16).SiLU()
		n, err := h.Node()
		if err != nil {
			t.Fatal(err)
		}
		y := G.Must(G.Tanh(n))
		y = G.Must(G.HadamardProd(y, n))
		y = G.Must(G.Add(y, G.NewConstant(float32(0.5))))
		y = G.Must(G.Reshape(y, tensor.Shape{6, 8}))
		out, err := s.On(y).LayerNorm("norm", 1e-5).Linear("fc2", 4).Node()
		if err != nil {
			t.Fatal(err)
		}
		w := G.NewMatrix(g, G.Float32, G.WithShape(4, 5), G.WithName("plain.weight"))
		return []*G.Node{G.Must(G.SoftMax(G.Must(G.Mul(out, w)))), G.Must(G.Sum(out))}
	}},
	{"convolutions, pools and attention in general", func(t *testing.T, g *G.ExprGraph) []*G.Node {
		s := layers.NewScope(g, "custom", layers.Declared{})
		image := s.On(s.Input("image", G.Float32, 2, 9, 8, 6)).
			ConvWindow("patches", layers.ConvConfig{Out: 12, Kernel: layers.HW{H: 2, W: 3}, Stride: layers.HW{H: 2, W: 1},
				NoBias: true}).
			ConvWindow("grouped", layers.ConvConfig{Out: 24, Kernel: layers.Square(3), Pad: layers.Around(2),
				Dilation: layers.Square(2), Groups: 3}).
			ConvWindow("depthwise", layers.ConvConfig{Out: 24, Kernel: layers.Square(3), Pad: layers.Around(1), Groups: 24}).
			ConvWindow("plain", layers.ConvConfig{Out: 16, Kernel: layers.Square(3), Pad: layers.Around(1)}).SiLU().
			MaxPool(layers.PoolConfig{Kernel: layers.Square(2), Stride: layers.Square(1)}).AdaptiveAverage(2, 3)
		sequence := s.On(s.Input("sequence", G.Float32, 2, 14, 6)).
			ConvWindow("wide", layers.ConvConfig{Out: 16, Kernel: layers.HW{W: 3}, Stride: layers.HW{W: 2},
				Pad: layers.Sides{Left: 1, Right: 1}}).
			ConvWindow("far", layers.ConvConfig{Out: 16, Kernel: layers.HW{W: 3}, Dilation: layers.HW{W: 2},
				Pad: layers.Sides{Left: 4}}).
			AveragePool(layers.PoolConfig{Kernel: layers.HW{W: 2}, Stride: layers.HW{W: 1}})
		lengths := s.Input("lengths", G.Int32, 2)
		letInts(t, lengths, 6, 2)
		keys := sequence.Linear("keys", 8)
		attended := image.Attend(keys, keys, layers.AttentionConfig{Heads: 4, KVHeads: 2, Scale: 0.7,
			Bias: s.Input("bias", G.Float32, 4, 6, 6), Lengths: lengths})
		var out []*G.Node
		for _, f := range []layers.Flow{attended, sequence.GlobalAverage()} {
			n, err := f.Node()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
		return out
	}},
}

func smallVAE(t *testing.T) vae.Config {
	cfg, err := vae.ParseConfig("config.json", []byte(`{"block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
		"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}`))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The VM gives the numbers of Gorgonia's own TapeMachine, which runs every op's definition; on a device too, where
// what has no kernel runs on the host, between kernels.
func TestVMAgreesWithTapeMachine(t *testing.T) {
	t.Run("cpu", func(t *testing.T) { agreesWithTapeMachine(t, graphs.WithThreads(2)) })
	t.Run("cuda", func(t *testing.T) {
		testkit.NeedDevice(t)
		agreesWithTapeMachine(t, graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0", DType: "f32"}))
	})
}

func agreesWithTapeMachine(t *testing.T, on graphs.Option) {
	for _, c := range vmCases {
		t.Run(c.name, func(t *testing.T) {
			g := G.NewGraph()
			outputs := c.build(t, g)
			fill(t, g)

			var want [][]float32
			tape := G.NewTapeMachine(g)
			if err := tape.RunAll(); err != nil {
				t.Fatal(err)
			}
			for _, n := range outputs {
				want = append(want, floats(n.Value()))
			}
			tape.Close()

			vm, err := graphs.NewVM(g, on, graphs.WithOutputs(outputs...))
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			for run := range 2 {
				if err := vm.RunAll(); err != nil {
					t.Fatal(err)
				}
				vm.Reset()
				for i, n := range outputs {
					if d := relL2(floats(n.Value()), want[i]); !(d <= 1e-5) {
						t.Errorf("run %d, output %d: relative L2 %g", run, i, d)
					}
				}
			}
		})
	}
}

func floats(v G.Value) []float32 {
	switch d := v.Data().(type) {
	case []float32:
		return append([]float32(nil), d...)
	case float32:
		return []float32{d}
	}
	panic(fmt.Sprintf("value of type %T", v.Data()))
}

func TestVMReadsAndRoots(t *testing.T) {
	g := G.NewGraph()
	x := G.NewVector(g, G.Float32, G.WithShape(3), G.WithName("x"))
	y := G.Must(G.Square(x))
	var got G.Value
	G.Read(y, &got)
	vm, err := graphs.NewVM(g)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.RunAll(); err == nil || !strings.Contains(err.Error(), `input "x" has no value`) {
		t.Fatalf("a run without values: %v", err)
	}
	G.Let(x, tensor.New(tensor.WithBacking([]float32{1, 2, 3})))
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	if d := relL2(floats(got), []float32{1, 4, 9}); !(d == 0) {
		t.Errorf("read %v", got)
	}
}

func TestVMStops(t *testing.T) {
	g := G.NewGraph()
	outputs := vmCases[0].build(t, g)
	fill(t, g)
	vm, err := graphs.NewVM(g, graphs.WithOutputs(outputs...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := vm.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that was cancelled before: %v", err)
	}
	if err := vm.RunAll(); err != nil {
		t.Errorf("the run after it: %v", err)
	}
	vm.Close()
	if err := vm.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := vm.RunAll(); !errors.Is(err, graphs.ErrClosed) {
		t.Errorf("a run after Close: %v", err)
	}
}

func TestVMRefusesOtherElementTypes(t *testing.T) {
	g := G.NewGraph()
	x := G.NewVector(g, G.Float64, G.WithShape(3), G.WithName("x"))
	G.Must(G.Square(x))
	if _, err := graphs.NewVM(g); err == nil || !strings.Contains(err.Error(), "float64") {
		t.Errorf("float64 graph: %v", err)
	}
}
