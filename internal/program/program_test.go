package program_test

import (
	"testing"

	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

// sd15 is the UNet of Stable Diffusion 1.5 at 512x512, batch 2; only shapes, no weights.
func sd15(t testing.TB) *program.Program {
	cfg, err := unet.ParseConfig("config.json", []byte(`{"cross_attention_dim": 768}`))
	if err != nil {
		t.Fatal(err)
	}
	s := layers.NewScope(G.NewGraph(), "unet", layers.Declared{})
	out, err := unet.Build(s, cfg, unet.NewInputs(s, cfg, 2, 64, 64, 77))
	return compile(t, out, err)
}

func decoder(t testing.TB) *program.Program {
	cfg, err := vae.ParseConfig("config.json", []byte(`{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
		"down_block_types": ["DownEncoderBlock2D","DownEncoderBlock2D","DownEncoderBlock2D","DownEncoderBlock2D"],
		"up_block_types": ["UpDecoderBlock2D","UpDecoderBlock2D","UpDecoderBlock2D","UpDecoderBlock2D"]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := layers.NewScope(G.NewGraph(), "vae", layers.Declared{})
	out, err := vae.Decode(s, cfg, s.Input("latents", G.Float32, 1, 64, 64, 4))
	return compile(t, out, err)
}

func compile(t testing.TB, out *G.Node, err error) *program.Program {
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.Compile(program.Target{}, []*G.Node{out}, func(name string) bool {
		return len(name) > 7 && (name[len(name)-7:] == ".weight" || name[len(name)-5:] == ".bias")
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// No two activations that are alive at the same time may share memory, except a result and the argument it
// takes over.
func TestPlacement(t *testing.T) {
	for name, p := range map[string]*program.Program{"unet": sd15(t), "decoder": decoder(t)} {
		for i, a := range p.Values {
			if a.Kind != program.Activation || a.First < 0 {
				continue
			}
			if a.Offset+a.Bytes > p.Arena || a.Offset%program.Align != 0 {
				t.Errorf("%s: %s lies at %d..%d of %d", name, a.Name, a.Offset, a.Offset+a.Bytes, p.Arena)
			}
			for _, b := range p.Values[i+1:] {
				if b.Kind != program.Activation || b.First < 0 || a.Offset+a.Bytes <= b.Offset || b.Offset+b.Bytes <= a.Offset {
					continue
				}
				if a.Last > b.First && b.Last > a.First {
					t.Errorf("%s: %s (calls %d-%d) and %s (calls %d-%d) overlap", name, a.Name, a.First, a.Last, b.Name, b.First, b.Last)
				}
			}
		}
		t.Logf("%s: %d calls, arena %.1f MiB, bound %.1f MiB", name, len(p.Calls), float64(p.Arena)/(1<<20), float64(p.Bound)/(1<<20))
		if !(float64(p.Arena) <= 1.35*float64(p.Bound)) {
			t.Errorf("%s: the arena is %d bytes, the bound %d", name, p.Arena, p.Bound)
		}
	}
}

// The work of a step is the figure known for the model: 1.61 TFLOP for SD 1.5 at 512x512 with guidance.
func TestFLOPs(t *testing.T) {
	var sum int64
	for _, c := range sd15(t).Calls {
		sum += c.FLOPs
	}
	if !(sum > 1.59e12 && sum < 1.63e12) {
		t.Errorf("a UNet step is %.3f TFLOP, want 1.61", float64(sum)/1e12)
	}
}

// What can be fused is: no pointwise call is left in the UNet but the sums over the timestep embedding.
func TestFusion(t *testing.T) {
	n := map[string]int{}
	for _, c := range sd15(t).Calls {
		op := c.Op.String()
		for i := range op {
			if op[i] == '{' {
				op = op[:i]
				break
			}
		}
		n[op]++
	}
	t.Log(n)
	for _, op := range []string{"Add", "AddChannels"} {
		if n[op] != 0 {
			t.Errorf("%d %s calls are left", n[op], op)
		}
	}
	if n["Activate"] > 1 {
		t.Errorf("%d activations are left", n["Activate"])
	}
}
