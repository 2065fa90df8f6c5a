package ops

import (
	"testing"

	"github.com/euryale-ml/euryale/internal/ops/op"
)

// The tiles that products of SD 1.5 and SDXL take on the 132 processors of an H100.
func TestHopperTiles(t *testing.T) {
	for _, c := range []struct{ m, n, columns int }{
		{8192, 320, 160}, {8192, 2560, 256}, {8192, 640, 160}, {2048, 640, 128}, {2048, 1280, 160}, {2048, 10240, 256}, {32768, 320, 160},
		{1 << 18, 256, 256}, {1 << 18, 128, 128}, {1 << 20, 3, 128}, {1, 10240, 128},
		{512, 1280, 0}, {128, 1280, 0}, {154, 768, 0}, // too few tiles
	} {
		columns, stages, tiles := hopperTile(c.m, c.n, 132)
		if columns != c.columns {
			t.Errorf("%d rows, %d columns: tiles of %d columns, want %d", c.m, c.n, columns, c.columns)
		}
		if want := op.Ceil(c.m, 128) * op.Ceil(c.n, max(columns, 1)); columns > 0 && tiles != want {
			t.Errorf("%d rows, %d columns: %d tiles, want %d", c.m, c.n, tiles, want)
		}
		if shared := stages*(128+columns)*128 + 8*16*40*4 + 2*8*stages + 1024; shared > 227<<10 {
			t.Errorf("tiles of %d columns need %d bytes of shared memory, there are 227 KiB", columns, shared)
		}
	}
}
