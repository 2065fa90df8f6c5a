package layers

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// slice takes the places from, from+1 ... to-1 of one dimension.
//
//	x       [... N ...]
//	result  [... to-from ...]
type slice struct {
	plain
	Dim, From, To int
}

func (k slice) String() string {
	return fmt.Sprintf("Slice{dim=%d from=%d to=%d}", k.Dim, k.From, k.To)
}
func (k slice) Arity() int { return 1 }

func (k slice) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if k.Dim < 0 || k.Dim >= len(x) || len(x) > cpu.MaxDims {
		return nil, wrongShape(k, "x", x, "a dimension %d, and at most %d", k.Dim, cpu.MaxDims)
	}
	if k.From < 0 || k.To <= k.From || k.To > x[k.Dim] {
		return nil, wrongShape(k, "x", x, "places %d to %d of dimension %d, which has %d", k.From, k.To-1, k.Dim, x[k.Dim])
	}
	out := x.Clone()
	out[k.Dim] = k.To - k.From
	return out, nil
}

func (k slice) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, s := in[0].F32(), in[0].Shape
	inner := s[k.Dim+1:].TotalSize()
	n := shape[k.Dim] * inner
	for i := range len(out) / n {
		copy(out[i*n:][:n], x[(i*s[k.Dim]+k.From)*inner:])
	}
}

func (k slice) strided(x, out tensor.Shape) cpu.Strided {
	strides := x.CalcStrides()
	return collapse(out, strides, k.From*strides[k.Dim])
}

func (k slice) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Gather(out.F32(), in[0].F32(), k.strided(in[0].Shape, out.Shape))
}

func (k slice) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return gather(out, in[0], k.strided(in[0].Shape, out.Shape)), nil
}

// permute gives the dimensions another order: dimension i of the result is dimension order[i] of x.
//
//	x, result  [...]   order has as many numbers as x has dimensions
type permute struct {
	plain
	Dims  int
	Order [cpu.MaxDims]int
}

func (k permute) String() string { return fmt.Sprintf("Permute{order=%v}", k.Order[:k.Dims]) }
func (k permute) Arity() int     { return 1 }

func (k permute) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	sorted := slices.Sorted(slices.Values(k.Order[:k.Dims]))
	for i, d := range sorted {
		if i != d {
			return nil, wrongShape(k, "x", x, "an order of each dimension once, and at most %d", cpu.MaxDims)
		}
	}
	if len(x) != k.Dims || k.Dims == 0 {
		return nil, wrongShape(k, "x", x, "%d dimensions, as the order has", k.Dims)
	}
	out := x.Clone()
	for i, d := range k.Order[:k.Dims] {
		out[i] = x[d]
	}
	return out, nil
}

func (k permute) Define(out []float32, shape tensor.Shape, in []program.Arg) {
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

func (k permute) strided(x, out tensor.Shape) cpu.Strided {
	from, strides := x.CalcStrides(), make([]int, k.Dims)
	for i, d := range k.Order[:k.Dims] {
		strides[i] = from[d]
	}
	return collapse(out, strides, 0)
}

func (k permute) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Gather(out.F32(), in[0].F32(), k.strided(in[0].Shape, out.Shape))
}

func (k permute) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return gather(out, in[0], k.strided(in[0].Shape, out.Shape)), nil
}

// reshape is the same numbers in other dimensions.
//
//	x, result  [...]   of as many elements
type reshape struct {
	plain
	Dims int
	Size [cpu.MaxDims]int
}

func (k reshape) String() string { return fmt.Sprintf("Reshape{shape=%v}", k.Size[:k.Dims]) }
func (k reshape) Arity() int     { return 1 }
func (k reshape) Rank() int      { return k.Dims }
func (k reshape) InPlace() []int { return []int{0} }

func (k reshape) Infer(in []tensor.Shape) (tensor.Shape, error) {
	out := tensor.Shape(slices.Clone(k.Size[:k.Dims]))
	if k.Dims == 0 || slices.Min(out) < 1 || out.TotalSize() != in[0].TotalSize() {
		return nil, wrongShape(k, "x", in[0], "as many elements as %v, of at most %d dimensions", []int(out), cpu.MaxDims)
	}
	return out, nil
}

func (k reshape) Define(out []float32, _ tensor.Shape, in []program.Arg) { copy(out, in[0].F32()) }

func (k reshape) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if &out.Data[0] != &in[0].Data[0] {
		p.Gather(out.F32(), in[0].F32(), collapse(tensor.Shape{len(out.F32())}, []int{1}, 0))
	}
}

// Device: in its argument's place there is nothing to do.
func (k reshape) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
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
	p.wide = int32(b2i(wide))
	return []device.Kernel{launch("gather", out.DType, p, packBlocks(out), 256, 0)}
}

// Slice takes the places from, from+1 ... to-1 of a dimension; dimensions below 0 count from the last, which is -1.
//
//	x       [... N ...]
//	result  [... to-from ...]
func (f Flow) Slice(dim, from, to int) Flow {
	return f.apply("slice", slice{Dim: f.dim(dim), From: from, To: to})
}

// Chunk cuts a dimension into n equal parts; dimensions below 0 count from the last, which is -1.
//
//	x        [... N ...]
//	results  [... N/n ...]
func (f Flow) Chunk(dim, n int) []Flow {
	parts := make([]Flow, max(1, n))
	for i := range parts {
		parts[i] = f
		if f.err != nil || f.n == nil {
			continue
		}
		d, shape := f.dim(dim), f.n.Shape()
		if d < 0 || d >= len(shape) || n < 1 || shape[d]%n != 0 {
			parts[i].err = fmt.Errorf("%s: %w", f.s.Sub("chunk").Name(), &ShapeError{Op: "Chunk", Arg: "x", Got: shape.Clone(),
				Want: fmt.Sprintf("a dimension %d of a multiple of %d", dim, n)})
			continue
		}
		size := shape[d] / n
		parts[i] = f.Slice(d, i*size, (i+1)*size)
	}
	return parts
}

// Permute gives the dimensions another order: dimension i of the result is dimension order[i] of x.
//
//	x, result  [...]
func (f Flow) Permute(order ...int) Flow {
	k := permute{Dims: min(len(order), cpu.MaxDims)}
	copy(k.Order[:], order)
	if len(order) > cpu.MaxDims {
		k.Order = [cpu.MaxDims]int{-1} // is no order
	}
	return f.apply("permute", k)
}

// Reshape has the same numbers in other dimensions; one of them may be -1, for as much as is left. With Permute it
// takes pictures apart into patches. Where its argument is used no more, nothing is copied.
//
//	x, result  [...]   of as many elements
func (f Flow) Reshape(dims ...int) Flow {
	k := reshape{Dims: len(dims)}
	if len(dims) > cpu.MaxDims {
		k.Dims = 0 // is no shape
	}
	copy(k.Size[:], dims)
	if i := slices.Index(dims, -1); i >= 0 && k.Dims > 0 && f.err == nil && f.n != nil {
		rest := 1
		for j, d := range dims {
			if j != i {
				rest *= d
			}
		}
		if n := f.n.Shape().TotalSize(); rest > 0 {
			k.Size[i] = n / rest // infer compares the product
		}
	}
	return f.apply("reshape", k)
}

// dim is a dimension of the flow's node, counted from 0 if there is that dimension.
func (f Flow) dim(d int) int {
	if f.err == nil && f.n != nil && d < 0 && d >= -f.n.Dims() {
		return d + f.n.Dims()
	}
	return d
}
