package ops

import (
	"fmt"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/op"
)

// hopperParams is HopperParams of gemm_hopper.cu.
type hopperParams struct {
	x, w device.TensorMap
	gemm gemmParams
	_    [(64 - unsafe.Sizeof(gemmParams{})%64) % 64]byte
}

// hopperTiles are the columns of gemm_hopper.cu's tiles of 128 rows, and how many the ring has.
var hopperTiles = []struct{ columns, stages int }{{256, 4}, {160, 5}, {128, 6}}

// hopperTile is the tile with which the processors are done first. A step along k takes a tile as long as its rows of both
// operands take from L2, at some 32 bytes a cycle and processor: longer than multiplying them. It is 0 if half the processors
// would have nothing to do. Nothing of this is measured.
func hopperTile(m, n, processors int) (columns, stages, tiles int) {
	best := 0
	for _, t := range hopperTiles {
		count := op.Ceil(m, 128) * op.Ceil(n, t.columns)
		cost := op.Ceil(count, processors) * (128 + t.columns)
		if 2*count >= processors && (best == 0 || cost < best) {
			best, columns, stages, tiles = cost, t.columns, t.stages, count
		}
	}
	return columns, stages, tiles
}

// onHopper reports whether gemm_hopper.cu takes the product: it is there, takes the shape, and has work for the processors.
func onHopper(k device.Kernels, p *gemmParams, channels int, out device.Arg) bool {
	if k.Boxes == nil || out.DType == dtype.F32 || !onTensorCores(k, out.DType, channels) {
		return false
	}
	columns, _, _ := hopperTile(int(p.m), int(p.n), k.Processors)
	return columns > 0
}

// hopper launches a product on compute capability 9.0.
func hopper(k device.Kernels, name string, p *gemmParams, out device.Arg) ([]device.Kernel, error) {
	columns, stages, tiles := hopperTile(int(p.m), int(p.n), k.Processors)
	p.splits = 1
	h := &hopperParams{gemm: *p}
	var err error
	if name == "linear" {
		if h.x, err = k.Boxes(device.Matrix{Ptr: p.x, DType: out.DType, Rows: int(p.m), Columns: int(p.k), BoxRows: 128}); err != nil {
			return nil, err
		}
	}
	if h.w, err = k.Boxes(device.Matrix{Ptr: p.w, DType: out.DType, Rows: int(p.n), Columns: int(p.k), BoxRows: columns / 2}); err != nil {
		return nil, err
	}
	// As Layout in gemm_hopper.cu, and what its alignment may take.
	shared := stages*(128+columns)*128 + 8*16*40*4 + 2*8*stages + 1024
	name = fmt.Sprintf("hopper_%s_%d", name, columns)
	return []device.Kernel{op.Launch(name, out.DType, h, min(tiles, k.Processors), 384, shared)}, nil
}
