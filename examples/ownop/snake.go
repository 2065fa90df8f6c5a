package main

import (
	_ "embed"
	"fmt"
	"hash"
	"hash/fnv"
	"math"

	"github.com/chewxy/hm"
	"github.com/euryale-ml/euryale/graphs"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// snake is the activation x + sin(alpha x)^2 / alpha of audio models (arXiv 2006.08195).
//
//	x      [... C]
//	alpha  [C]
//	result [... C]
//
// The methods up to Do are what Gorgonia asks of an op, and all that is needed to run. Those after it make it fast.
type snake struct{}

func (snake) Arity() int { return 2 }

func (snake) Type() hm.Type {
	x, alpha := G.TensorType{Dims: 2, Of: hm.TypeVariable('a')}, G.TensorType{Dims: 1, Of: hm.TypeVariable('a')}
	return hm.NewFnType(x, alpha, x)
}

func (snake) InferShape(in ...G.DimSizer) (tensor.Shape, error) {
	x, alpha := in[0].(tensor.Shape), in[1].(tensor.Shape)
	if len(alpha) != 1 || x[len(x)-1] != alpha[0] {
		return nil, fmt.Errorf("snake of %v and %v; alpha is of x's last dimension", x, alpha)
	}
	return x.Clone(), nil
}

func (snake) Do(in ...G.Value) (G.Value, error) {
	x, alpha := in[0].Data().([]float32), in[1].Data().([]float32)
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = value(v, alpha[i%len(alpha)])
	}
	return tensor.New(tensor.WithShape(in[0].Shape()...), tensor.WithBacking(out)), nil
}

func value(x, a float32) float32 {
	s := float32(math.Sin(float64(a * x)))
	return x + s*s/a
}

func (snake) ReturnsPtr() bool      { return false }
func (snake) CallsExtern() bool     { return false }
func (snake) OverwritesInput() int  { return -1 }
func (snake) WriteHash(h hash.Hash) { fmt.Fprint(h, "Snake{}") }
func (snake) String() string        { return "Snake{}" }
func (s snake) Hashcode() uint32    { h := fnv.New32a(); s.WriteHash(h); return h.Sum32() }

// fast is snake with forms of its own.
type fast struct{ snake }

var _ interface {
	graphs.HostForm
	graphs.DeviceForm
	graphs.Counted
	graphs.InPlace
} = fast{}

// Host writes where the runtime wants the result, with all threads.
func (fast) Host(t graphs.Threads, out graphs.Array, in []graphs.Array) {
	alpha, n := in[1].F32, len(in[1].F32)
	rows := len(out.F32) / n
	t.For(rows, func(_, row int) {
		x, y := in[0].F32[row*n:][:n], out.F32[row*n:][:n]
		for i := range y {
			y[i] = value(x[i], alpha[i])
		}
	})
}

// InPlace says that the result may lie where x does.
func (fast) InPlace() []int { return []int{0} }

// FLOPs counts a sine as one.
func (fast) FLOPs(out tensor.Shape, _ []tensor.Shape) int64 { return 5 * int64(out.TotalSize()) }

// ptx is what `make kernels` makes of snake.cu.
//
//go:embed snake.ptx
var ptx string

// params is SnakeParams of snake.cu.
type params struct {
	x, alpha, out    uint64
	n                int64
	channels, unused int32
}

// Kernels launches the kernel for the type that the device was opened for.
func (fast) Kernels(out graphs.DeviceArray, in []graphs.DeviceArray) ([]graphs.Launch, error) {
	n := out.Shape.TotalSize()
	return []graphs.Launch{{
		Kernel: "snake_" + out.DType, Grid: [3]int{min(65535, (n+255)/256)}, Block: 256,
		Params: graphs.Params(&params{in[0].Ptr, in[1].Ptr, out.Ptr, int64(n), int32(in[1].Shape[0]), 0}),
	}}, nil
}
