package layers_test

import (
	"os"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// block is a graph under construction, with values for its leaves.
type block struct {
	t    *testing.T
	s    layers.Scope
	want map[string]golden.Tensor
	lets map[*G.Node][]float32
}

func (b *block) let(name string, data []float32, shape ...int) layers.Flow {
	n := b.s.Input(name, G.Float32, shape...)
	b.lets[n] = data
	return b.s.On(n)
}

// randn is an input of torch's numbers of a seed.
func (b *block) randn(seed uint64, shape ...int) layers.Flow {
	return b.let("x"+string(rune('a'+seed)), normal(seed, tensor.Shape(shape).TotalSize()), shape...)
}

// table is an input that the golden file has.
func (b *block) table(name string) layers.Flow {
	return b.let(name, b.want[name].F32, b.want[name].Shape...)
}

func normal(seed uint64, n int) []float32 {
	x := make([]float32, n)
	torchrand.New(seed).Randn(x)
	return x
}

const heads, width = 3, 48 // as in make_blocks.py

// goldenCases are named like the results of make_blocks.py.
var goldenCases = map[string]func(b *block, x layers.Flow) layers.Flow{
	"mul":       func(b *block, x layers.Flow) layers.Flow { return x.Mul(b.randn(1, 2, 7, width)) },
	"mul.image": func(b *block, x layers.Flow) layers.Flow { return x.Mul(b.randn(8, 2, width)) },
	"mul.all":   func(b *block, x layers.Flow) layers.Flow { return x.Mul(b.randn(9, width)) },
	"sub":       func(b *block, x layers.Flow) layers.Flow { return x.Sub(b.randn(1, 2, 7, width)) },
	"sub.image": func(b *block, x layers.Flow) layers.Flow { return x.Sub(b.randn(8, 2, width)) },
	"sub.all":   func(b *block, x layers.Flow) layers.Flow { return x.Sub(b.randn(9, width)) },
	"slice":     func(b *block, x layers.Flow) layers.Flow { return x.Slice(1, 2, 5) },
	"chunk":     func(b *block, x layers.Flow) layers.Flow { return x.Chunk(-1, 3)[1] },
	"layer_norm.no_weight": func(b *block, x layers.Flow) layers.Flow {
		return x.LayerNormNoWeight("norm_out", 1e-6)
	},
	"swiglu.gate_first":  func(b *block, x layers.Flow) layers.Flow { return x.SwiGLUGateFirst() },
	"rms_norm":           func(b *block, x layers.Flow) layers.Flow { return x.RMSNorm("norm", 1e-6) },
	"rms_norm.no_weight": func(b *block, x layers.Flow) layers.Flow { return x.RMSNormNoWeight("norm", 1e-6) },
	"rms_norm.heads":     func(b *block, x layers.Flow) layers.Flow { return x.RMSNormHeads("norm_q", heads, 1e-5) },
	"rotary": func(b *block, x layers.Flow) layers.Flow {
		return x.Rotary(b.table("cos"), b.table("sin"), heads)
	},
	"rotary.halves": func(b *block, x layers.Flow) layers.Flow {
		return x.RotaryHalves(b.table("cos"), b.table("sin"), heads)
	},
	"rotary.part": func(b *block, x layers.Flow) layers.Flow {
		return x.RotaryHalves(b.table("cos.part"), b.table("sin.part"), heads)
	},
	"swiglu":         func(b *block, x layers.Flow) layers.Flow { return x.SwiGLU() },
	"gated.silu":     func(b *block, x layers.Flow) layers.Flow { return x.Gated("silu", backwards(b)) },
	"gated.gelu_new": func(b *block, x layers.Flow) layers.Flow { return x.Gated("gelu_new", backwards(b)) },
	"modulate.zero": func(b *block, x layers.Flow) layers.Flow {
		parts := b.randn(4, 2, 6*width).Chunk(1, 6)
		return x.Modulate(parts[1], parts[0])
	},
	"modulate.zero.mlp": func(b *block, x layers.Flow) layers.Flow {
		return x.ModulateBy(b.randn(4, 2, 6*width), 4, 3)
	},
	"modulate.continuous": func(b *block, x layers.Flow) layers.Flow {
		return x.ModulateBy(b.randn(6, 2, 2*width), 0, 1)
	},
	"modulate.lumina": func(b *block, x layers.Flow) layers.Flow {
		return x.ModulateBy(b.randn(5, 2, 4*width), 0, layers.NoPart)
	},
	"add_gated": func(b *block, x layers.Flow) layers.Flow {
		return x.AddGated(b.randn(1, 2, 7, width), b.randn(4, 2, 6*width).Chunk(-1, 6)[2])
	},
	"add_gated.mlp": func(b *block, x layers.Flow) layers.Flow {
		return x.AddGatedBy(b.randn(1, 2, 7, width), b.randn(4, 2, 6*width), 5)
	},
	"add_gated.tanh": func(b *block, x layers.Flow) layers.Flow {
		return x.AddGatedBy(b.randn(1, 2, 7, width), b.randn(5, 2, 4*width).Tanh(), 1)
	},
	"patches": func(b *block, _ layers.Flow) layers.Flow {
		image := b.randn(7, 2, 4, 6, 3)
		return image.Reshape(2, 2, 2, 3, 2, 3).Permute(0, 1, 3, 5, 2, 4).Reshape(2, -1, 12)
	},
}

// backwards is x with its channels in the opposite order.
func backwards(b *block) layers.Flow {
	x := normal(0, 2*7*width)
	y := make([]float32, len(x))
	for i := range y {
		y[i] = x[i/width*width+width-1-i%width]
	}
	return b.let("backwards", y, 2, 7, width)
}

// Builders and ops give what diffusers, transformers and torch give: on the host, and on a device in each type.
func TestBlocksAgreeWithDiffusers(t *testing.T) {
	want := golden.Load(t, "blocks")
	for _, d := range []struct {
		graphs.DeviceOption
		most float64
	}{
		{graphs.DeviceOption{}, 1e-6},
		{graphs.DeviceOption{Name: "cuda:0", DType: "f32"}, 1e-6},
		{graphs.DeviceOption{Name: "cuda:0", DType: "f16"}, 1e-3},
		{graphs.DeviceOption{Name: "cuda:0", DType: "bf16"}, 8e-3},
	} {
		t.Run(d.Name+d.DType, func(t *testing.T) {
			for name, result := range want {
				build, ok := goldenCases[name]
				act, isAct := strings.CutPrefix(name, "act.")
				switch {
				case isAct:
					build = func(b *block, x layers.Flow) layers.Flow { return x.Scale(3).Activation(act) }
				case !ok && strings.HasPrefix(name, "cos"), !ok && strings.HasPrefix(name, "sin"):
					continue
				case !ok:
					t.Errorf("%s is not compared", name)
					continue
				}
				t.Run(name, func(t *testing.T) { compare(t, want, result, build, d.DeviceOption, d.most) })
			}
			for name := range goldenCases {
				if _, ok := want[name]; !ok {
					t.Errorf("there is no result of %s", name)
				}
			}
		})
	}
}

func compare(t *testing.T, want map[string]golden.Tensor, result golden.Tensor,
	build func(*block, layers.Flow) layers.Flow, d graphs.DeviceOption, most float64) {
	g := G.NewGraph()
	weights := layers.Declared{}
	b := &block{t: t, s: layers.NewScope(g, "block", weights), want: want, lets: map[*G.Node][]float32{}}
	out, err := build(b, b.randn(0, 2, 7, width)).Node()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Inputs() {
		data, ok := b.lets[n]
		if seed, isWeight := map[string]uint64{"block.norm.weight": 2, "block.norm_q.weight": 3}[n.Name()]; isWeight {
			data, ok = normal(seed, n.Shape().TotalSize()), true
		}
		if !ok {
			t.Fatalf("%s has no value", n.Name())
		}
		if err := G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(data))); err != nil {
			t.Fatal(err)
		}
	}
	vm, err := graphs.NewVM(g, graphs.WithDevice(d), graphs.WithOutputs(out))
	if err != nil {
		if d.Name != "" && os.Getenv("GPU") != "1" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	if !tensor.Shape(result.Shape).Eq(out.Shape()) {
		t.Errorf("shape %v, want %v", out.Shape(), result.Shape)
	}
	if e := golden.RelL2(out.Value().Data().([]float32), result.F32); !(e <= most) {
		t.Errorf("differs by %.2g, at most %.2g is expected", e, most)
	} else {
		t.Logf("differs by %.2g", e)
	}
}
