package ops

import (
	"fmt"
	"testing"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"gorgonia.org/tensor"
)

// The tile and the parts of the products with the most work in SD 1.5 at 512 and SDXL at 1024 pixels, with guidance.
func TestTiling(t *testing.T) {
	const a100, rtx4090, h100 = 108, 128, 132
	for _, c := range []struct {
		name       string
		m, n, k    int
		processors int
		want       string
	}{
		{"sd15 conv 64x64", 8192, 320, 2880, h100, "128x160/1"},
		{"sd15 conv 64x64", 8192, 320, 2880, a100, "160x160/1"},
		{"sd15 conv 64x64, 960 channels", 8192, 320, 8640, rtx4090, "128x160/1"},
		{"sd15 conv 32x32", 2048, 640, 5760, h100, "128x160/2"},
		{"sd15 conv 32x32", 2048, 640, 5760, a100, "160x160/2"},
		{"sd15 conv 16x16", 512, 1280, 11520, h100, "128x160/4"},
		{"sd15 conv 16x16", 512, 1280, 11520, a100, "128x160/3"},
		{"sd15 conv 8x8", 128, 1280, 11520, h100, "128x128/11"},
		{"sd15 conv 8x8", 128, 1280, 11520, a100, "128x128/9"},
		{"sd15 ff 64x64", 8192, 2560, 320, h100, "128x160/1"},
		{"sd15 ff out 16x16", 512, 1280, 5120, rtx4090, "128x160/4"},
		{"sdxl ff 32x32", 2048, 10240, 1280, h100, "128x160/1"},
		{"sdxl ff 32x32", 2048, 10240, 1280, a100, "256x128/1"},
		{"sdxl ff out 32x32", 2048, 1280, 5120, h100, "128x160/1"},
		{"sdxl ff out 32x32", 2048, 1280, 5120, a100, "160x160/1"},
		{"sdxl to_q 32x32", 2048, 1280, 1280, rtx4090, "128x160/1"},
		{"sdxl to_q 32x32", 2048, 1280, 1280, a100, "160x160/1"},
		{"sdxl to_k, text", 154, 1280, 2048, h100, "64x160/5"},
		{"sdxl conv 128x128", 32768, 320, 2880, h100, "128x160/1"},
		{"sdxl conv 128x128", 32768, 320, 2880, a100, "128x160/1"},
		{"vae conv 128x128", 16384, 512, 4608, h100, "256x128/1"},
		{"vae conv to three channels", 262144, 3, 1152, h100, "64x64/1"},
		{"one row", 1, 8, 8, h100, "64x64/1"},
	} {
		best, splits := tiling(c.m, c.n, c.k, c.processors)
		if got := fmt.Sprintf("%dx%d/%d", best.rows, best.columns, splits); got != c.want {
			t.Errorf("%s on %d processors: %s, want %s", c.name, c.processors, got, c.want)
		}
		if c.processors == a100 { // of which tile.cycles is; at 1.41 GHz
			us := float64(best.cycles(c.m, c.n, c.k, splits, a100)) / 1410
			t.Logf("%-28s %6d x %5d x %5d  %8s  blocks/processor %.2f  predicted %4.0f us, %3.0f TFLOP/s", c.name, c.m, c.n, c.k, c.want,
				float64(best.blocks(c.m, c.n)*splits)/a100, us, 2*float64(c.m*c.n)*float64(c.k)/us/1e6)
		}
	}
}

// Whatever the shape, parts have work, can be stored, and take no more scratch than they may; and a launch uses the
// scratch that was asked for.
func TestTilingBounds(t *testing.T) {
	for _, processors := range []int{1, 4, 40, 108, 144} {
		for _, m := range []int{1, 63, 154, 512, 8192, 1 << 20} {
			for _, n := range []int{1, 4, 8, 100, 320, 1280, 10240} {
				for _, k := range []int{8, 40, 320, 11520, 1 << 17} {
					best, splits := tiling(m, n, k, processors)
					name := fmt.Sprintf("%d x %d x %d on %d processors: %dx%d, %d parts", m, n, k, processors, best.rows, best.columns, splits)
					if splits < 1 || splits > 1 && (n%8 != 0 || splits > op.Ceil(k, depth) || 4*splits*m*n > mostParts) {
						t.Error(name)
					}
					if best.shared() > 99<<10 {
						t.Errorf("%s: %d bytes of shared memory, devices have 99 KiB", name, best.shared())
					}
					p := &gemmParams{m: int32(m), n: int32(n), k: int32(k)}
					dev, out := device.Kernels{TensorCore: true, Processors: processors}, device.Arg{Shape: tensor.Shape{m, n}, DType: dtype.F16}
					scratch := gemmScratch(dev, p, k, out)
					if _, err := gemm(dev, "linear", p, k, out, 0); err != nil {
						t.Fatal(err)
					}
					if want := 4 * int(p.splits) * m * n; p.splits > 1 && scratch != want || p.splits == 1 && scratch != 0 {
						t.Errorf("%s: %d bytes of scratch, want %d", name, scratch, want)
					}
				}
			}
		}
	}
}
