package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"gorgonia.org/tensor"
)

// suffix is what a kernel's name ends in: the type it works on.
func suffix(t dtype.Type) string {
	return map[dtype.Type]string{dtype.F32: "_f32", dtype.F16: "_f16", dtype.BF16: "_bf16"}[t]
}

// launch is one launch of a kernel for type t.
func launch[P any](name string, t dtype.Type, p *P, grid, block, shared int) device.Kernel {
	return device.Kernel{Name: name + suffix(t), Grid: [3]int{grid, 1, 1}, Block: block, Shared: shared, Params: device.Params(p)}
}

// elementwiseParams is ElementwiseParams of elementwise.cu.
type elementwiseParams struct {
	A, B, C, Out       device.Ptr
	N, Image           int64
	Channels, Other    int32
	Height, Width, Act int32
	Flip               int32
	Shift              float32
	_                  int32
}

// elementwise launches a kernel of elementwise.cu over the elements of out.
func elementwise(name string, out device.Arg, in []device.Arg, set func(p *elementwiseParams)) ([]device.Kernel, error) {
	s := out.Shape
	p := &elementwiseParams{Out: out.Ptr, N: int64(s.TotalSize()), Image: int64(s.TotalSize() / s[0]), Channels: int32(last(s))}
	for i, ptr := range []*device.Ptr{&p.A, &p.B, &p.C} {
		if i < len(in) {
			*ptr = in[i].Ptr
		}
	}
	if set != nil {
		set(p)
	}
	blocks := min(65535, (s.TotalSize()+255)/256)
	return []device.Kernel{launch(name, out.DType, p, blocks, 256, 0)}, nil
}

// gemmParams is GemmParams of epilogue.h.
type gemmParams struct {
	x, w, bias, offsets, residual, out device.Ptr
	m, n, k, act                       int32
	height, width, channels, kh, kw    int32
	stride, up, padTop, padLeft        int32
	outWidth, outPixels, splits        int32
	partial                            device.Ptr
}

func ceil(a, b int) int { return (a + b - 1) / b }

// attentionParams is AttentionParams of attention.h.
type attentionParams struct {
	q, k, v, out              device.Ptr
	sq, skv, heads, d, causal int32
	scale                     float32
}

// generalAttentionParams is GeneralAttentionParams.
type generalAttentionParams struct {
	attentionParams
	bias, lengths                device.Ptr
	biasImage, biasHead, biasRow int64
	kvHeads                      int32
	_                            int32
}

// The families of attention kernels, as their names begin.
const (
	plainAttention   = "attention_"
	generalAttention = "attention_general_" // for generalAttentionParams
)

// tensorHeads are the head sizes that attention_tensor.cu and attention_general_tensor.cu have kernels for: threads,
// queries and keys of a tile, the columns of the result that a block keeps, whether queries stay in shared memory, and
// whether there is a kernel of generalAttention. Of other sizes no transformer wants one so far, and the kernels in
// float take them.
var tensorHeads = map[int]struct {
	threads, queries, keys, columns int
	stay, general                   bool
}{
	40: {128, 128, 64, 40, false, false}, 64: {128, 128, 64, 64, false, true}, 80: {128, 128, 64, 80, true, false},
	128: {128, 128, 32, 128, true, true}, 160: {128, 64, 32, 160, false, false}, 512: {64, 32, 16, 128, true, false},
}

// attend launches the kernel of a family for the head size. It takes params; p is the part that every family has.
func attend[P any](k device.Kernels, family string, params *P, p *attentionParams, batch int,
	out device.Arg) ([]device.Kernel, error) {
	d := int(p.d)
	if t, ok := tensorHeads[d]; ok && k.TensorCore && out.DType != dtype.F32 && (family == plainAttention || t.general) {
		row := func(n int) int { return ceil(n, 16)*32 + 16 }
		shared := 2 * t.keys * (row(d) + row(t.columns))
		if t.stay {
			shared += t.queries * row(d)
		}
		l := launch(fmt.Sprint(family, d), out.DType, params, ceil(int(p.sq), t.queries), t.threads, shared)
		l.Grid[1], l.Grid[2] = batch*int(p.heads), d/t.columns
		return []device.Kernel{l}, nil
	}
	for _, most := range []int{64, 160, 512} {
		if d <= most {
			l := launch(fmt.Sprint(family, "upto_", most), out.DType, params, ceil(int(p.sq), 32), 256, 3*32*33*4)
			l.Grid[1] = batch * int(p.heads)
			return []device.Kernel{l}, nil
		}
	}
	return nil, fmt.Errorf("no kernel for attention heads of %d; the largest is 512", d)
}

// groupNormParams is GroupNormParams of norm.cu, layerNormParams LayerNormParams.
type groupNormParams struct {
	x, gamma, beta, partial, out           device.Ptr
	pixels, channels, groups, chunks, silu int32
	eps                                    float32
}

type layerNormParams struct {
	x, gamma, beta, out device.Ptr
	rows, channels      int32
	eps                 float32
	_                   int32
}

// chunks is the number of parts that an image is cut into for its sums.
func chunks(out tensor.Shape) int { return min(128, max(1, rows(out)/out[0]/16)) }

// pointwiseParams is PointwiseParams of pointwise.cu.
type pointwiseParams struct {
	a, b, c, out               device.Ptr
	n, image                   int64
	channels, act              int32
	bStride, bAt, cStride, cAt int32
	vectors                    int32
	factor                     float32
}

// pointwise launches a kernel of pointwise.cu over the elements of out.
func pointwise(name string, out device.Arg, set func(p *pointwiseParams)) ([]device.Kernel, error) {
	s := out.Shape
	p := &pointwiseParams{out: out.Ptr, n: int64(s.TotalSize()), image: int64(s.TotalSize() / s[0]), channels: int32(last(s))}
	set(p)
	return []device.Kernel{launch(name, out.DType, p, packBlocks(out), 256, 0)}, nil
}

// two sets the operands of mul and sub.
func (p *pointwiseParams) two(out device.Arg, in []device.Arg) {
	v := spreadOver(out.Shape, in[1].Shape)
	p.a, p.b, p.vectors, p.bStride = in[0].Ptr, in[1].Ptr, int32(b2i(v.vectors)), int32(v.stride)
}

// packBlocks is how many blocks of 256 threads cover out, 16 bytes a thread. Kernels stride over what they do not reach.
func packBlocks(out device.Arg) int {
	return max(1, min(65535, ceil(out.Shape.TotalSize()*out.DType.Size(), 256*16)))
}
