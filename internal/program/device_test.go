package program_test

import (
	"context"
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

func target(t dtype.Type) program.Target {
	return program.Target{Kernels: device.Kernels{Names: map[string]bool{}}, DType: t}
}

// numbered is a checkpoint of float32 tensors that count 0, 1, 2.
type numbered map[string][]int

func (n numbered) Stored(name string) ([]int, dtype.Type, bool) {
	s, ok := n[name]
	return s, dtype.F32, ok
}

func (n numbered) ReadTensor(_ context.Context, _ string, dst []byte) error {
	for i := range len(dst) / 4 {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(float32(i)))
	}
	return nil
}

// A filter is laid out in its place: beside that and what is read there is no memory that the budget does not know.
func TestFiltersAreLaidOutInPlace(t *testing.T) {
	const out, in, k = 70, 130, 3
	s := layers.NewScope(G.NewGraph(), "net", layers.Declared{})
	image := s.On(s.Input("image", G.Float32, 1, 8, 8, in)).Conv("conv", out, k)
	filtersAreLaidOutInPlace(t, image, []int{out, in, k, k})
	s = layers.NewScope(G.NewGraph(), "net", layers.Declared{})
	sequence := s.On(s.Input("sequence", G.Float32, 1, 20, in)).
		ConvWindow("conv", layers.ConvConfig{Out: out, Kernel: layers.HW{W: k * k}})
	filtersAreLaidOutInPlace(t, sequence, []int{out, in, k * k})
}

func filtersAreLaidOutInPlace(t *testing.T, conv layers.Flow, shape tensor.Shape) {
	y, err := conv.Node()
	if err != nil {
		t.Fatal(err)
	}
	out, in, taps := shape[0], shape[1], shape[2:].TotalSize()
	pool := cpu.NewPool(1)
	defer pool.Close()
	for _, to := range []dtype.Type{dtype.F32, dtype.BF16} {
		src := numbered{"net.conv.weight": shape, "net.conv.bias": {out}}
		mem := hostmem.New(hostmem.NewBudget(1 << 30))
		w := program.NewWeights(src, pool, mem, nil)
		p, err := program.Compile(target(to), []*G.Node{y}, w.Has)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := w.Load(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<16 && !bounded.Race { // which has all of it on the heap
			t.Errorf("%v: %d bytes of the heap for a filter of %d", to, n, 4*out*in*taps)
		}
		got := make([]float32, out*in*taps)
		dtype.ToF32(got, w.Master("net.conv.weight", program.Taps), to)
		for o := range out {
			for tap := range taps {
				for c := range in {
					want := float32((o*in+c)*taps + tap)
					if v := got[(o*taps+tap)*in+c]; math.Abs(float64(v-want)) > float64(want)/256 || to == dtype.F32 && v != want {
						t.Fatalf("%v: filter %d, tap %d, channel %d is %g, want %g", to, o, tap, c, v, want)
					}
				}
			}
		}
		if err := w.Release(); err != nil {
			t.Error(err)
		}
		mem.Close()
	}
}

// An input that kernels read as float32 alone takes no place in the target's type.
func TestInputsTakeOnePlace(t *testing.T) {
	s := layers.NewScope(G.NewGraph(), "net", layers.Declared{})
	y, err := s.On(s.Input("t", G.Float32, 1000, 1)).Timesteps(2, true, 0).Node()
	if err != nil {
		t.Fatal(err)
	}
	none := func(name string) bool { return strings.HasSuffix(name, ".weight") }
	p, err := program.Compile(target(dtype.F16), []*G.Node{y}, none)
	if err != nil {
		t.Fatal(err)
	}
	if n := p.DeviceBytes() - p.Arena; n < 4000 || n > 4000+program.Align {
		t.Errorf("%d bytes for an input of 1,000 float32", n)
	}
}
