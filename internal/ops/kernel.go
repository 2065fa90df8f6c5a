package ops

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"gorgonia.org/tensor"
)

// gemmParams is GemmParams of epilogue.h.
type gemmParams struct {
	x, w, bias, offsets, residual, out device.Ptr
	m, n, k, act                       int32
	height, width, channels, kh, kw    int32
	stride, up, padTop, padLeft        int32
	outWidth, outPixels, splits        int32
	partial                            device.Ptr
}

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
		row := func(n int) int { return op.Ceil(n, 16)*32 + 16 }
		shared := 2 * t.keys * (row(d) + row(t.columns))
		if t.stay {
			shared += t.queries * row(d)
		}
		l := op.Launch(fmt.Sprint(family, d), out.DType, params, op.Ceil(int(p.sq), t.queries), t.threads, shared)
		l.Grid[1], l.Grid[2] = batch*int(p.heads), d/t.columns
		return []device.Kernel{l}, nil
	}
	for _, most := range []int{64, 160, 512} {
		if d <= most {
			l := op.Launch(fmt.Sprint(family, "upto_", most), out.DType, params, op.Ceil(int(p.sq), 32), 256, 3*32*33*4)
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
func chunks(out tensor.Shape) int { return min(128, max(1, op.Rows(out)/out[0]/16)) }
