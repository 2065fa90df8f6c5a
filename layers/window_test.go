package layers

import (
	"fmt"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/ops"
	"github.com/euryale-ml/euryale/internal/ops/op"
	G "gorgonia.org/gorgonia"
)

// What a caller may get wrong is an error of the layer, and no panic.
func TestLayersReportWrongConfigs(t *testing.T) {
	s := NewScope(G.NewGraph(), "net", Declared{})
	image, sequence := s.Input("image", G.Float32, 1, 6, 6, 4), s.Input("sequence", G.Float32, 1, 6, 4)
	for name, f := range map[string]Flow{
		"no kernel":              s.On(image).ConvWindow("conv", ConvConfig{Out: 3}),
		"no outputs":             s.On(image).ConvWindow("conv", ConvConfig{Kernel: Square(3)}),
		"negative groups":        s.On(image).ConvWindow("conv", ConvConfig{Out: 4, Kernel: Square(3), Groups: -1}),
		"a negative dilation":    s.On(image).ConvWindow("conv", ConvConfig{Out: 4, Kernel: Square(3), Dilation: Square(-1)}),
		"more groups than there": s.On(image).ConvWindow("conv", ConvConfig{Out: 8, Kernel: Square(3), Groups: 8}),
		"a height of a sequence": s.On(sequence).ConvWindow("conv", ConvConfig{Out: 4, Kernel: Square(3)}),
		"a pool without kernel":  s.On(image).MaxPool(PoolConfig{}),
		"a pool of nothing":      s.On(nil).AveragePool(PoolConfig{Kernel: Square(2)}),
		"no heads":               s.On(sequence).Attend(s.On(sequence), s.On(sequence), AttentionConfig{}),
		"no keys":                s.On(sequence).Attend(Flow{}, s.On(sequence), AttentionConfig{Heads: 1}),
	} {
		if n, err := f.Node(); err == nil || !strings.Contains(err.Error(), "net.") {
			t.Errorf("%s: node %v, error %v", name, n, err)
		}
	}
}

// A convolution that UNets have too is the same op, which fuses with its neighbours.
func TestConvWindowIsConvWhereItCanBe(t *testing.T) {
	s := NewScope(G.NewGraph(), "net", Declared{})
	x := s.Input("x", G.Float32, 1, 8, 8, 4)
	for _, c := range []struct {
		cfg  ConvConfig
		want bool
	}{
		{ConvConfig{Out: 4, Kernel: HW{3, 5}, Stride: Square(2), Pad: Sides{Top: 1}}, true},
		{ConvConfig{Out: 4, Kernel: Square(3), Pad: Sides{Left: 1 << 15}}, false}, // its kernels have 16 bits for a place
		{ConvConfig{Out: 4, Kernel: Square(3), NoBias: true}, false},
		{ConvConfig{Out: 4, Kernel: Square(3), Stride: HW{1, 2}}, false},
		{ConvConfig{Out: 4, Kernel: Square(3), Dilation: HW{W: 2}}, false},
		{ConvConfig{Out: 4, Kernel: Square(3), Groups: 2}, false},
	} {
		n, err := s.On(x).ConvWindow(fmt.Sprint(c.cfg), c.cfg).Node()
		if err != nil {
			t.Fatal(err)
		}
		if k, ok := n.Op().(op.Op).Kind.(ops.Conv); ok != c.want {
			t.Errorf("%+v is %v", c.cfg, k)
		}
	}
}

// What a config leaves out is as torch has it.
func TestDefaultsOfWindows(t *testing.T) {
	s := NewScope(G.NewGraph(), "net", Declared{})
	image, sequence := s.On(s.Input("image", G.Float32, 1, 8, 8, 4)), s.On(s.Input("sequence", G.Float32, 1, 8, 4))
	one := ops.Square(1)
	for name, c := range map[string]struct {
		flow Flow
		want op.Kind
	}{
		"a pool steps by its kernel": {image.MaxPool(PoolConfig{Kernel: HW{2, 3}}),
			ops.Pool{Window: ops.Window{Kernel: ops.HW{H: 2, W: 3}, Stride: ops.HW{H: 2, W: 3}, Dilation: one}}},
		"a pool of a sequence is of one row": {
			sequence.AveragePool(PoolConfig{Kernel: HW{W: 4}, Stride: HW{W: 3}, Pad: Sides{Left: 2, Right: 1}}),
			ops.Pool{Average: true, Window: ops.Window{Kernel: ops.HW{H: 1, W: 4}, Stride: ops.HW{H: 1, W: 3}, Dilation: one,
				Pad: ops.Padding{Left: 2, Right: 1}}}},
		"a filter steps by one": {image.ConvWindow("conv", ConvConfig{Out: 4, Kernel: HW{2, 3}, NoBias: true}),
			ops.ConvWindow{Groups: 1, Window: ops.Window{Kernel: ops.HW{H: 2, W: 3}, Stride: one, Dilation: one}}},
		"a filter of a sequence is of one row": {
			sequence.ConvWindow("conv1d", ConvConfig{Out: 4, Kernel: HW{W: 3}, Dilation: HW{W: 2}}),
			ops.ConvWindow{Groups: 1, Bias: true,
				Window: ops.Window{Kernel: ops.HW{H: 1, W: 3}, Stride: one, Dilation: ops.HW{H: 1, W: 2}}}},
	} {
		n, err := c.flow.Node()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := n.Op().(op.Op).Kind; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
