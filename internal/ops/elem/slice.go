package elem

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Slice takes the places From, From+1 ... To-1 of one dimension.
//
//	x       [... N ...]
//	result  [... To-From ...]
type Slice struct {
	op.Plain
	Dim, From, To int
}

func (k Slice) String() string {
	return fmt.Sprintf("Slice{dim=%d from=%d to=%d}", k.Dim, k.From, k.To)
}
func (k Slice) Arity() int { return 1 }

func (k Slice) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if k.Dim < 0 || k.Dim >= len(x) || len(x) > cpu.MaxDims {
		return nil, op.WrongShape(k, "x", x, "a dimension %d, and at most %d", k.Dim, cpu.MaxDims)
	}
	if k.From < 0 || k.To <= k.From || k.To > x[k.Dim] {
		return nil, op.WrongShape(k, "x", x, "places %d to %d of dimension %d, which has %d", k.From, k.To-1, k.Dim, x[k.Dim])
	}
	out := x.Clone()
	out[k.Dim] = k.To - k.From
	return out, nil
}

func (k Slice) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, s := in[0].F32(), in[0].Shape
	inner := s[k.Dim+1:].TotalSize()
	n := shape[k.Dim] * inner
	for i := range len(out) / n {
		copy(out[i*n:][:n], x[(i*s[k.Dim]+k.From)*inner:])
	}
}

func (k Slice) strided(x, out tensor.Shape) cpu.Strided {
	strides := x.CalcStrides()
	return collapse(out, strides, k.From*strides[k.Dim])
}

func (k Slice) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Gather(out.F32(), in[0].F32(), k.strided(in[0].Shape, out.Shape))
}

func (k Slice) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return gather(out, in[0], k.strided(in[0].Shape, out.Shape)), nil
}

// Permute gives the dimensions another order: dimension i of the result is dimension Order[i] of x.
//
//	x, result  [...]   Order has as many numbers as x has dimensions
type Permute struct {
	op.Plain
	Dims  int
	Order [cpu.MaxDims]int
}

func (k Permute) String() string { return fmt.Sprintf("Permute{order=%v}", k.Order[:k.Dims]) }
func (k Permute) Arity() int     { return 1 }

func (k Permute) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	sorted := slices.Sorted(slices.Values(k.Order[:k.Dims]))
	for i, d := range sorted {
		if i != d {
			return nil, op.WrongShape(k, "x", x, "an order of each dimension once, and at most %d", cpu.MaxDims)
		}
	}
	if len(x) != k.Dims || k.Dims == 0 {
		return nil, op.WrongShape(k, "x", x, "%d dimensions, as the order has", k.Dims)
	}
	out := x.Clone()
	for i, d := range k.Order[:k.Dims] {
		out[i] = x[d]
	}
	return out, nil
}

func (k Permute) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	strides := in[0].Shape.CalcStrides()
	for i := range out {
		at := 0
		for d, rest := k.Dims-1, i; d >= 0; d-- {
			at += rest % shape[d] * strides[k.Order[d]]
			rest /= shape[d]
		}
		out[i] = in[0].F32()[at]
	}
}

func (k Permute) strided(x, out tensor.Shape) cpu.Strided {
	from, strides := x.CalcStrides(), make([]int, k.Dims)
	for i, d := range k.Order[:k.Dims] {
		strides[i] = from[d]
	}
	return collapse(out, strides, 0)
}

func (k Permute) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Gather(out.F32(), in[0].F32(), k.strided(in[0].Shape, out.Shape))
}

func (k Permute) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return gather(out, in[0], k.strided(in[0].Shape, out.Shape)), nil
}

// Reshape is the same numbers in other dimensions.
//
//	x, result  [...]   of as many elements
type Reshape struct {
	op.Plain
	Dims int
	Size [cpu.MaxDims]int
}

func (k Reshape) String() string { return fmt.Sprintf("Reshape{shape=%v}", k.Size[:k.Dims]) }
func (k Reshape) Arity() int     { return 1 }
func (k Reshape) Rank() int      { return k.Dims }
func (k Reshape) InPlace() []int { return []int{0} }

func (k Reshape) Infer(in []tensor.Shape) (tensor.Shape, error) {
	out := tensor.Shape(slices.Clone(k.Size[:k.Dims]))
	if k.Dims == 0 || slices.Min(out) < 1 || out.TotalSize() != in[0].TotalSize() {
		return nil, op.WrongShape(k, "x", in[0], "as many elements as %v, of at most %d dimensions", []int(out), cpu.MaxDims)
	}
	return out, nil
}

func (k Reshape) Define(out []float32, _ tensor.Shape, in []program.Arg) { copy(out, in[0].F32()) }

func (k Reshape) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if &out.Data[0] != &in[0].Data[0] {
		p.Gather(out.F32(), in[0].F32(), collapse(tensor.Shape{len(out.F32())}, []int{1}, 0))
	}
}

// Device: in its argument's place there is nothing to do.
func (k Reshape) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	if out.Ptr == in[0].Ptr {
		return []device.Kernel{}, nil
	}
	return gather(out, in[0], collapse(tensor.Shape{out.Shape.TotalSize()}, []int{1}, 0)), nil
}

// collapse joins neighbouring dimensions of a result that are one in what it is taken from.
func collapse(size tensor.Shape, strides []int, offset int) cpu.Strided {
	s := cpu.Strided{Dims: 1, Size: [cpu.MaxDims]int{1}, Stride: [cpu.MaxDims]int{1}, Offset: offset}
	for i, n := range size {
		d := s.Dims - 1
		switch {
		case n == 1:
		case s.Size[d] == 1:
			s.Size[d], s.Stride[d] = n, strides[i]
		case s.Stride[d] == n*strides[i]:
			s.Size[d], s.Stride[d] = s.Size[d]*n, strides[i]
		default:
			s.Size[d+1], s.Stride[d+1] = n, strides[i]
			s.Dims++
		}
	}
	return s
}

// stridedParams is StridedParams of strided.cu.
type stridedParams struct {
	x, out       device.Ptr
	n, offset    int64
	size, stride [cpu.MaxDims]int64
	dims, wide   int32
}

// gather copies what s says. Packs of 16 bytes are copied at once if they begin at multiples of 16 bytes in both.
func gather(out, x device.Arg, s cpu.Strided) []device.Kernel {
	pack := 16 / out.DType.Size()
	p := &stridedParams{x: x.Ptr, out: out.Ptr, n: int64(out.Shape.TotalSize()), offset: int64(s.Offset),
		dims: int32(s.Dims)}
	d := s.Dims - 1
	wide := s.Stride[d] == 1 && s.Size[d]%pack == 0 && s.Offset%pack == 0
	for i, n := range s.Size[:s.Dims] {
		p.size[i], p.stride[i] = int64(n), int64(s.Stride[i])
		wide = wide && (i == d || s.Stride[i]%pack == 0)
	}
	p.wide = int32(op.Count(wide))
	return []device.Kernel{op.Launch("gather", out.DType, p, op.PackBlocks(out), 256, 0)}
}
