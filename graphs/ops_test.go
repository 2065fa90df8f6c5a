package graphs_test

import (
	"context"
	"fmt"
	stdhash "hash"
	"hash/fnv"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/chewxy/hm"
	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// snake is x + sin(a x)^2 / a, with an a per channel: the op of examples/ownop, whose kernels it uses.
type snake struct{ did *[]string }

func (snake) Arity() int { return 2 }
func (snake) Type() hm.Type {
	x, a := G.TensorType{Dims: 2, Of: hm.TypeVariable('a')}, G.TensorType{Dims: 1, Of: hm.TypeVariable('a')}
	return hm.NewFnType(x, a, x)
}
func (snake) InferShape(ds ...G.DimSizer) (tensor.Shape, error) {
	return ds[0].(tensor.Shape).Clone(), nil
}
func (k snake) Do(in ...G.Value) (G.Value, error) {
	*k.did = append(*k.did, "Do")
	x, a := in[0].Data().([]float32), in[1].Data().([]float32)
	out := make([]float32, len(x))
	snakes(out, x, func(c int) float32 { return a[c] }, len(a))
	return tensor.New(tensor.WithShape(in[0].Shape()...), tensor.WithBacking(out)), nil
}
func (snake) ReturnsPtr() bool         { return false }
func (snake) CallsExtern() bool        { return false }
func (snake) OverwritesInput() int     { return -1 }
func (snake) WriteHash(h stdhash.Hash) { fmt.Fprint(h, "Snake{}") }
func (k snake) Hashcode() uint32       { h := fnv.New32a(); k.WriteHash(h); return h.Sum32() }
func (snake) String() string           { return "Snake{}" }

func snakes(out, x []float32, a func(int) float32, channels int) {
	for i, v := range x {
		s := float32(math.Sin(float64(a(i%channels) * v)))
		out[i] = v + s*s/a(i%channels)
	}
}

// hostSnake reads a as it is stored, and may compute in place.
type hostSnake struct{ snake }

func (k hostSnake) Host(t graphs.Threads, out graphs.Array, in []graphs.Array) {
	*k.did = append(*k.did, "Host "+in[1].DType)
	alpha := make([]float32, in[1].Shape[0])
	dtype.ToF32(alpha, in[1].Stored, map[string]dtype.Type{"f32": dtype.F32, "f16": dtype.F16}[in[1].DType])
	n := len(alpha)
	t.For(len(out.F32)/n, func(_, row int) {
		snakes(out.F32[row*n:][:n], in[0].F32[row*n:][:n], func(c int) float32 { return alpha[c] }, n)
	})
}
func (hostSnake) AsStored(i int) bool                            { return i == 1 }
func (hostSnake) InPlace() []int                                 { return []int{0} }
func (hostSnake) FLOPs(out tensor.Shape, _ []tensor.Shape) int64 { return 7 * int64(out.TotalSize()) }

// deviceSnake has kernels, or what kernel names.
type deviceSnake struct {
	snake
	kernel string
}

func (k deviceSnake) Kernels(out graphs.DeviceArray, in []graphs.DeviceArray) ([]graphs.Launch, error) {
	*k.did = append(*k.did, "Kernels "+in[1].DType)
	type params struct {
		x, a, out        uint64
		n                int64
		channels, unused int32
	}
	n := out.Shape.TotalSize()
	return []graphs.Launch{{Kernel: k.kernel + out.DType, Grid: [3]int{(n + 255) / 256}, Block: 256,
		Params: graphs.Params(&params{in[0].Ptr, in[1].Ptr, out.Ptr, int64(n), int32(in[1].Shape[0]), 0})}}, nil
}

// runSnake runs silu, an op and tanh, and gives the result and what was called.
func runSnake(t *testing.T, op func(snake) G.Op, opts ...graphs.Option) (y []float32, did []string, stats graphs.Stats, err error) {
	t.Helper()
	s := layers.NewScope(G.NewGraph(), "net", layers.Declared{})
	x := s.Input("x", G.Float32, 3, 40)
	out, err := s.On(x).SiLU().Then("snake", func(s layers.Scope, x *G.Node) (*G.Node, error) {
		return G.ApplyOp(op(snake{&did}), x, s.Weight("a", 40))
	}).SiLU().Node()
	if err != nil {
		t.Fatal(err)
	}
	values, err := graphs.Bind[float32](x)
	if err != nil {
		t.Fatal(err)
	}
	alpha := make([]byte, 2*40)
	for i := range values {
		values[i] = float32(i%17)/4 - 2
	}
	for i := range 40 {
		h := dtype.F32ToF16(float32(i+1) / 8)
		alpha[2*i], alpha[2*i+1] = byte(h), byte(h>>8)
	}
	w := stored{"net.snake.a": alpha}
	vm, err := graphs.NewVM(x.Graph(), append(opts, graphs.WithWeights(w), graphs.WithOutputs(out), graphs.WithThreads(2))...)
	if err != nil {
		return nil, nil, stats, err
	}
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		return nil, did, stats, err
	}
	return floats(out.Value()), did, vm.Stats(), nil
}

// An op is run by the form it has for where it runs, and by its definition where it has none; the numbers are the same.
func TestOpsHaveFormsOfTheirOwn(t *testing.T) {
	plain := func(k snake) G.Op { return k }
	host := func(k snake) G.Op { return hostSnake{k} }
	kernels := func(k snake) G.Op { return deviceSnake{k, "snake_"} }
	want, did, stats, err := runSnake(t, plain)
	if err != nil || len(did) != 1 || did[0] != "Do" || stats.FLOPs != 0 {
		t.Fatalf("by its definition: %v, %v, %d FLOPs", did, err, stats.FLOPs)
	}
	arena := stats.ArenaBytes
	got, did, stats, err := runSnake(t, host)
	if err != nil || len(did) != 1 || did[0] != "Host f16" || stats.FLOPs != 7*3*40 || stats.ArenaBytes >= arena {
		t.Errorf("by its host form: %v, %v, %d FLOPs, %d bytes of %d", did, err, stats.FLOPs, stats.ArenaBytes, arena)
	}
	if d := golden.RelL2(got, want); !(d <= 1e-6) {
		t.Errorf("by its host form: another result, by %g", d)
	}
	if got, did, _, err = runSnake(t, kernels); err != nil || did[0] != "Do" || golden.RelL2(got, want) != 0 {
		t.Errorf("kernels on the processor: %v, %v", did, err)
	}

	t.Run("cuda", func(t *testing.T) {
		testkit.NeedDevice(t)
		ptx, err := os.ReadFile("../examples/ownop/snake.ptx")
		if err != nil {
			t.Fatal(err)
		}
		for name, most := range map[string]float64{"f32": 1e-6, "f16": 2e-3, "bf16": 2e-2} {
			opts := []graphs.Option{graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0", DType: name}), graphs.WithKernels(string(ptx))}
			got, did, _, err := runSnake(t, kernels, opts...)
			if err != nil || len(did) != 1 || did[0] != "Kernels "+name {
				t.Errorf("%s, by its kernels: %v, %v", name, did, err)
			}
			if d := golden.RelL2(got, want); !(d <= most) {
				t.Errorf("%s, by its kernels: another result, by %g", name, d)
			}
			if got, did, _, err = runSnake(t, host, opts...); err != nil || did[0] != "Do" || !(golden.RelL2(got, want) <= most) {
				t.Errorf("%s, without kernels: %v, %v", name, did, err)
			}
		}
		cuda := graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0"})
		missing := func(k snake) G.Op { return deviceSnake{k, "snail_"} }
		if _, _, _, err := runSnake(t, missing, cuda, graphs.WithKernels(string(ptx))); err == nil || !strings.Contains(err.Error(), "no kernel snail_f16") {
			t.Errorf("a kernel that is not there: %v", err)
		}
		for want, texts := range map[string][]string{"has no .visible .entry": {"mov"}, "is a kernel snake_f32 already": {string(ptx), string(ptx)}} {
			if _, err := graphs.Open(cuda, graphs.WithKernels(texts...)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
	})
}

// stored is a source of vectors in half precision.
type stored map[string][]byte

func (s stored) Info(name string) (loader.TensorInfo, bool) {
	b, ok := s[name]
	return loader.TensorInfo{Shape: []int{len(b) / 2}, DType: dtype.F16, Bytes: int64(len(b))}, ok
}

func (s stored) ReadTensor(_ context.Context, name string, dst []byte) error {
	copy(dst, s[name])
	return nil
}
