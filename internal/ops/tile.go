package ops

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/op"
)

// tile is what one block of gemm_tensor.h computes of a product, as the kernel's name has it.
type tile struct {
	rows, columns, threads, stages int
	resident                       int // blocks that a processor holds at once
}

// gemmTiles are the kernels there are. Many results of UNets have 320, 640 or 1280 columns and a power of two of rows:
// tiles of 128 x 160 cut those into a power of two of blocks, which 128 or 132 processors take in whole rounds, and tiles
// of 160 x 160 into 104 where an A100 has 108 processors.
var gemmTiles = []tile{
	{256, 128, 256, 4, 1}, {160, 160, 320, 4, 1}, {128, 160, 128, 4, 2}, {128, 128, 128, 4, 2}, {64, 160, 128, 4, 2}, {64, 64, 128, 4, 4},
}

// depth is what a step of gemm_tensor.h sums of k, of 16-bit numbers. Of float32 it is half, which take as much memory
// and as many cycles: everything here counts a float32 as two numbers.
const depth = 32

// halves is k in 16-bit numbers.
func halves(k int32, t dtype.Type) int { return int(k) * t.Size() / 2 }

// shared is the bytes of shared memory.
func (t tile) shared() int { return t.stages * (t.rows + t.columns) * depth * 2 }

// blocks is how many the product takes in one split.
func (t tile) blocks(m, n int) int { return op.Ceil(m, t.rows) * op.Ceil(n, t.columns) }

// cycles is what a product of k terms should take. The numbers are those of an A100, as its maker and others state them:
// nothing here is measured, and only comparisons of tiles are made of it.
func (t tile) cycles(m, n, k, splits, processors int) int {
	const (
		multiplyAdds = 1024 // of a processor's tensor cores, per cycle
		fromL2       = 28   // bytes that a processor gets per cycle
		fromMemory   = 10   // and of those, from beyond L2
		step         = 50   // of a barrier and first loads, unless another block computes meanwhile
		begin        = 1500 // launch, addresses, first tiles
		store        = 16   // results per cycle
		launch       = 2500 // of the kernel that adds the parts
	)
	rounds := op.Ceil(t.blocks(m, n)*splits, processors) // blocks of the busiest processor
	work := max(t.rows*t.columns*depth/multiplyAdds, (min(t.rows, m)+min(t.columns, n))*depth*2/fromL2)
	if min(rounds, t.resident) == 1 {
		work += step
	}
	steps := op.Ceil(op.Ceil(k, depth), splits)
	sum := max(rounds*steps*work, n*k*2/(processors*fromMemory))
	sum += op.Ceil(rounds, t.resident)*begin + rounds*t.rows*t.columns/store
	if splits > 1 {
		sum += launch + 2*4*m*n*splits/(processors*fromL2)
	}
	return sum
}

// mostParts is the bytes that the parts of a split product may take: a step of SD 1.5 then needs 3 % more memory.
const mostParts = 12 << 20

// tiling chooses the tile and into how many parts k is cut. It depends on nothing but the shape and the device's number
// of processors, so a device always computes a product in the same way.
func tiling(m, n, k, processors int) (best tile, splits int) {
	least := math.MaxInt
	for s := 1; s <= 16; s++ {
		if s > 1 && (n%8 != 0 || op.Ceil(k, depth) < 4*s || 4*s*m*n > mostParts) {
			break
		}
		if s == 2 {
			least -= least / 8 // the parts take memory: they must save an eighth
		}
		for _, t := range gemmTiles {
			if c := t.cycles(m, n, k, s, processors); c < least {
				best, splits, least = t, s, c
			}
		}
	}
	return best, splits
}

// onTensorCores reports whether gemm_tensor.h takes the product. channels is what a filter's tap sums, or k.
func onTensorCores(k device.Kernels, t dtype.Type, channels int) bool {
	return (t != dtype.F32 || k.TF32) && k.TensorCore && channels%8 == 0
}

// gemmScratch is the bytes of scratch that gemm wants.
func gemmScratch(k device.Kernels, p *gemmParams, channels int, out device.Arg) int {
	if !onTensorCores(k, out.DType, channels) || onHopper(k, p, channels, out) {
		return 0
	}
	if _, splits := tiling(int(p.m), int(p.n), halves(p.k, out.DType), k.Processors); splits > 1 {
		return 4 * splits * int(p.m) * int(p.n)
	}
	return 0
}

// gemm launches a product: on tensor cores where they take it, name is then "linear" or "conv".
func gemm(k device.Kernels, name string, p *gemmParams, channels int, out device.Arg, scratch device.Ptr) ([]device.Kernel, error) {
	if onHopper(k, p, channels, out) {
		return hopper(k, name, p, out)
	}
	if !onTensorCores(k, out.DType, channels) {
		p.splits = 1
		blocks := op.Ceil(int(p.m), 64) * op.Ceil(int(p.n), 64)
		return []device.Kernel{op.Launch("gemm", out.DType, p, blocks, 256, 2*16*68*4)}, nil
	}
	t, splits := tiling(int(p.m), int(p.n), halves(p.k, out.DType), k.Processors)
	return tiled(name, t, splits, p, out, scratch), nil
}

// tiled launches a product in the tile and the parts given.
func tiled(name string, t tile, splits int, p *gemmParams, out device.Arg, scratch device.Ptr) []device.Kernel {
	p.splits, p.partial = int32(splits), scratch
	l := op.Launch(fmt.Sprintf("%s_%dx%d", name, t.rows, t.columns), out.DType, p, t.blocks(int(p.m), int(p.n)),
		t.threads, t.shared())
	l.Grid[1] = splits
	if splits == 1 {
		return []device.Kernel{l}
	}
	return []device.Kernel{l, op.Launch("gemm_reduce", out.DType, p, op.Ceil(int(p.m)*int(p.n)/8, 256), 256, 0)}
}
