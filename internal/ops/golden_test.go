package ops

import (
	"fmt"
	"math"
	"testing"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/internal/torchrand"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// layerCase is a line of layers.json; see make_layers.py.
type layerCase struct {
	Op, Reference          string
	In                     [][]int
	Heads, KVHeads, Groups int
	Scale                  float32
	Causal, Bias           bool
	Lengths                []int32
	Kernel, Stride         []int
	Dilation, Pad          []int
}

// kind is the op of the case, with the defaults of Flow's methods.
func (c layerCase) kind(t *testing.T) op.Kind {
	pair := func(n []int) HW {
		if n == nil {
			return HW{}
		}
		return HW{n[0], n[1]}
	}
	w := unit(Window{Stride: pair(c.Stride), Dilation: pair(c.Dilation)})
	if c.Pad != nil {
		w.Pad = Padding{c.Pad[0], c.Pad[1], c.Pad[2], c.Pad[3]}
	}
	switch c.Op {
	case "attention":
		return Attention{Heads: c.Heads, KVHeads: c.KVHeads, Scale: c.Scale, Causal: c.Causal, Bias: c.Bias,
			Lengths: c.Lengths != nil}
	case "conv":
		filter := c.In[1]
		w.Kernel = HW{filter[len(filter)-2], filter[len(filter)-1]}
		if len(filter) == 3 {
			w.Kernel.H = 1
		}
		return ConvWindow{Window: w, Groups: max(1, c.Groups), Bias: len(c.In) == 3}
	case "max", "average":
		w.Kernel = pair(c.Kernel)
		w.Stride = or(pair(c.Stride), w.Kernel)
		return Pool{Window: w, Average: c.Op == "average"}
	case "adaptive":
		return AdaptiveAverage{H: c.Kernel[0], W: c.Kernel[1]}
	}
	t.Fatalf("no op %q", c.Op)
	return nil
}

// arguments are those of the script.
func (c layerCase) arguments(n int, bias []float32) (vals []G.Value) {
	for i, s := range c.In {
		shape := tensor.Shape(s)
		if c.Lengths != nil && i == len(c.In)-1 {
			vals = append(vals, tensor.New(tensor.WithShape(s...), tensor.WithBacking(c.Lengths)))
			continue
		}
		x := make([]float32, shape.TotalSize())
		torchrand.New(uint64(100*n + i)).Randn(x)
		if c.Bias && i == 3 {
			for j, v := range x {
				if v < -0.8 {
					x[j] = float32(math.Inf(-1))
				}
			}
			if bias != nil {
				copy(x, bias)
			}
		}
		vals = append(vals, tensor.New(tensor.WithShape(s...), tensor.WithBacking(x)))
	}
	if c.Reference == "t5" { // attention with itself
		vals[1], vals[2] = vals[0], vals[0]
	}
	return vals
}

// Attention, convolutions and pools are those of torch and transformers: their definitions and their host forms.
func TestLayersAgreeWithTorch(t *testing.T) {
	var cases []layerCase
	golden.Manifest(t, "layers", &cases)
	results := golden.Load(t, "layers")
	pool := cpu.NewPool(2)
	defer pool.Close()
	for n, c := range cases {
		t.Run(fmt.Sprintf("%d %s", n, c.Op), func(t *testing.T) {
			k := c.kind(t)
			vals := c.arguments(n, results[fmt.Sprint(n, ".bias")].F32)
			want := results[fmt.Sprint(n, ".result")]
			got, err := op.Op{Kind: k}.Do(vals...)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Shape().Eq(tensor.Shape(want.Shape)) {
				t.Fatalf("%v gives shape %v, torch %v", k, got.Shape(), want.Shape)
			}
			if d := golden.RelL2(got.Data().([]float32), want.F32); !(d <= 1e-6) {
				t.Errorf("definition of %v and torch differ by %g", k, d)
			}
			in := make([]program.Arg, len(vals))
			for i, v := range vals {
				in[i] = hostArg(v, k.Layout(i), dtype.F32)
			}
			out := program.Arg{Shape: got.Shape(), DType: dtype.F32, Data: program.Bytes(nans(got.Shape().TotalSize()))}
			k.Host(pool, out, in)
			if d := golden.RelL2(out.F32(), want.F32); !(d <= 2e-6) {
				t.Errorf("host form of %v and torch differ by %g", k, d)
			}
		})
	}
	if len(cases) < 30 {
		t.Errorf("%d cases", len(cases))
	}
}
