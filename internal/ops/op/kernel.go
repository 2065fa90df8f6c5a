package op

import (
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
)

// suffix is what a kernel's name ends in: the type it works on.
func suffix(t dtype.Type) string {
	return map[dtype.Type]string{dtype.F32: "_f32", dtype.F16: "_f16", dtype.BF16: "_bf16"}[t]
}

// Launch is one launch of a kernel for type t.
func Launch[P any](name string, t dtype.Type, p *P, grid, block, shared int) device.Kernel {
	return device.Kernel{Name: name + suffix(t), Grid: [3]int{grid, 1, 1}, Block: block, Shared: shared, Params: device.Params(p)}
}

// ElementwiseParams is ElementwiseParams of elementwise.cu.
type ElementwiseParams struct {
	A, B, C, Out       device.Ptr
	N, Image           int64
	Channels, Other    int32
	Height, Width, Act int32
	Flip               int32
	Shift              float32
	_                  int32
}

// Elementwise launches a kernel of elementwise.cu over the elements of out.
func Elementwise(name string, out device.Arg, in []device.Arg,
	set func(p *ElementwiseParams)) ([]device.Kernel, error) {
	s := out.Shape
	p := &ElementwiseParams{Out: out.Ptr, N: int64(s.TotalSize()), Image: int64(s.TotalSize() / s[0]),
		Channels: int32(Last(s))}
	for i, ptr := range []*device.Ptr{&p.A, &p.B, &p.C} {
		if i < len(in) {
			*ptr = in[i].Ptr
		}
	}
	if set != nil {
		set(p)
	}
	blocks := min(65535, (s.TotalSize()+255)/256)
	return []device.Kernel{Launch(name, out.DType, p, blocks, 256, 0)}, nil
}

// Ceil is a/b rounded up.
func Ceil(a, b int) int { return (a + b - 1) / b }

// PackBlocks is how many blocks of 256 threads cover out, 16 bytes a thread. Kernels stride over what they do not
// reach.
func PackBlocks(out device.Arg) int {
	return max(1, min(65535, Ceil(out.Shape.TotalSize()*out.DType.Size(), 256*16)))
}
