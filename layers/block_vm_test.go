package layers_test

import (
	"math"
	"os"
	"slices"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// diffusionBlock is a block as FLUX and Z-Image have them, with both kinds of norms, rotations and gates, on patches of
// an image.
//
//	image   [B 4 6 8]
//	mod     [B 6*C]
//	result  [B 4 6 8]
func diffusionBlock(s layers.Scope) (*G.Node, error) {
	const b, c, n, seq = 2, 32, 2, 6
	input := func(name string, shape ...int) layers.Flow { return s.On(s.Input(name, G.Float32, shape...)) }
	mod, cos, sin := input("mod", b, 6*c), input("cos", seq, c/n/2), input("sin", seq, c/n/2)

	x := input("image", b, 4, 6, 8).Reshape(b, 2, 2, 3, 2, 8).Permute(0, 1, 3, 2, 4, 5).Reshape(b, seq, c)
	h := x.LayerNormNoWeight("norm1", 1e-6).ModulateBy(mod, 1, 0)
	qkv := h.LinearNoBias("attn.to_qkv", 3*c).Chunk(-1, 3)
	q := qkv[0].RMSNormHeads("attn.norm_q", n, 1e-6).Rotary(cos, sin, n)
	k := qkv[1].RMSNormHeads("attn.norm_k", n, 1e-6).RotaryHalves(cos, sin, n)
	h = q.Attention(k, qkv[2], n, false).Linear("attn.to_out.0", c)
	x = x.AddGatedBy(h, mod, 2)

	h = x.RMSNorm("ffn_norm1", 1e-5).ModulateBy(mod, 4, layers.NoPart)
	h = h.LinearNoBias("feed_forward.w1", 2*c).Gated("silu", h.LinearNoBias("feed_forward.w3", 2*c))
	h = h.Linear("proj", 4*c).SwiGLU().Linear("mid", c).GELUTanh().Sub(x)
	h = h.Mul(mod.Slice(1, 3*c, 4*c).Tanh()).Mul(s.On(s.Weight("layer_scale.gamma", c))).Scale(0.5)
	x = x.AddGated(h, mod.Chunk(1, 6)[5])
	return x.Reshape(b, 2, 3, 2, 2, 8).Permute(0, 1, 3, 2, 4, 5).Reshape(b, 4, 6, 8).Node()
}

// A block gives the numbers of its definitions, which Gorgonia's own machine runs, in every run: on a device kernels
// that come again run as a graph, results take over their arguments' memory, and a reshape has no kernel.
func TestBlockAgreesWithTapeMachine(t *testing.T) {
	g := G.NewGraph()
	out, err := diffusionBlock(layers.NewScope(g, "transformer", layers.Declared{}))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range g.Inputs() {
		data := make([]float32, n.Shape().TotalSize())
		torchrand.New(uint64(i)).Randn(data)
		if n.Dims() == 2 && n.Shape()[0] > 6 { // a matrix: activations keep their size
			for j := range data {
				data[j] /= float32(math.Sqrt(float64(n.Shape()[1])))
			}
		}
		if err := G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(data))); err != nil {
			t.Fatal(err)
		}
	}
	tape := G.NewTapeMachine(g)
	if err := tape.RunAll(); err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(out.Value().Data().([]float32))
	tape.Close()

	for _, d := range []struct {
		graphs.DeviceOption
		most float64
	}{
		{graphs.DeviceOption{}, 1e-6},
		{graphs.DeviceOption{Name: "cuda:0", DType: "f32"}, 2e-6},
		{graphs.DeviceOption{Name: "cuda:0", DType: "f16"}, 2e-3},
		{graphs.DeviceOption{Name: "cuda:0", DType: "bf16"}, 2e-2},
	} {
		t.Run(d.Name+d.DType, func(t *testing.T) {
			vm, err := graphs.NewVM(g, graphs.WithDevice(d.DeviceOption), graphs.WithOutputs(out))
			if err != nil {
				if d.Name != "" && os.Getenv("GPU") != "1" {
					t.Skip(err)
				}
				t.Fatal(err)
			}
			defer vm.Close()
			for run := range 3 {
				if err := vm.RunAll(); err != nil {
					t.Fatal(err)
				}
				if e := golden.RelL2(out.Value().Data().([]float32), want); !(e <= d.most) {
					t.Errorf("run %d differs by %.2g, at most %.2g is expected", run, e, d.most)
				} else {
					t.Logf("run %d differs by %.2g", run, e)
				}
			}
		})
	}
}
