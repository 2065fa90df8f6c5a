package layers

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/ops/elem"
)

// Slice takes the places from, from+1 ... to-1 of a dimension; dimensions below 0 count from the last, which is -1.
//
//	x       [... N ...]
//	result  [... to-from ...]
func (f Flow) Slice(dim, from, to int) Flow {
	return f.apply("slice", elem.Slice{Dim: f.dim(dim), From: from, To: to})
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
	k := elem.Permute{Dims: min(len(order), cpu.MaxDims)}
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
	k := elem.Reshape{Dims: len(dims)}
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
			k.Size[i] = n / rest // Infer compares the product
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
