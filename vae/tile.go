package vae

import "github.com/euryale-ml/euryale/internal/stack"

// Tiles cuts a decode into overlapping squares and blends them, as diffusers' tiled_decode does: a quarter of
// each tile overlaps its neighbour, and the overlap fades linearly from one to the other.
type Tiles struct {
	Latent  int // side of a tile of latents
	Stride  int // distance between tiles of latents
	Blend   int // pixels that fade
	Keep    int // pixels of a tile that stay, all but the last
	scale   int
	columns int
}

// NewTiles is the tiling for a model's own tile size.
func NewTiles(cfg Config) Tiles { return cfg.Tiles(cfg.SampleSize) }

// Tiles is the tiling with tiles of that many pixels a side.
func (cfg Config) Tiles(pixels int) Tiles {
	latent := pixels / cfg.Scale()
	return Tiles{
		Latent: latent, Stride: max(1, latent*3/4), Blend: pixels / 4, Keep: pixels - pixels/4,
		scale: cfg.Scale(), columns: cfg.OutChannels,
	}
}

// Decode decodes latents z [h w l] tile by tile into out [H W C], H = Scale*h. decode decodes one tile of h by
// w latents; its result is used before the next call.
func (t Tiles) Decode(out, z []float32, h, w, l int, decode func(z []float32, h, w int) ([]float32, error)) error {
	c, width := t.columns, w*t.scale
	// above holds the last Blend rows of the row of tiles over this one, before cropping; left the last
	// Blend columns of the tile before.
	var above, row []tile
	return t.Each(h, w, func(y, x, th, tw int) error {
		if x == 0 {
			above, row = row, nil
		}
		in := make([]float32, 0, th*tw*l)
		for i := range th {
			in = append(in, z[((y+i)*w+x)*l:][:tw*l]...)
		}
		px, err := decode(in, th, tw)
		if err != nil {
			return err
		}
		cur := tile{append([]float32(nil), px...), th * t.scale, tw * t.scale, c}
		k := len(row)
		if above != nil {
			cur.blendDown(above[k], t.Blend)
		}
		if k > 0 {
			cur.blendRight(row[k-1], t.Blend)
		}
		row = append(row, cur)
		oy, ox := y/t.Stride*t.Keep, k*t.Keep
		for i := 0; i < min(cur.h, t.Keep) && oy+i < h*t.scale; i++ {
			n := min(cur.w, t.Keep, width-ox)
			if n > 0 {
				copy(out[((oy+i)*width+ox)*c:][:n*c], cur.px[i*cur.w*c:])
			}
		}
		return nil
	})
}

// Each calls f with the place and the size of each tile of h by w latents, row by row.
func (t Tiles) Each(h, w int, f func(y, x, th, tw int) error) error {
	for y := 0; y < h; y += t.Stride {
		for x := 0; x < w; x += t.Stride {
			if err := f(y, x, min(t.Latent, h-y), min(t.Latent, w-x)); err != nil {
				return stack.With(err)
			}
		}
	}
	return nil
}

// tile is one decoded square [h w c].
type tile struct {
	px      []float32
	h, w, c int
}

func (t tile) blendDown(above tile, n int) {
	n = min(n, t.h, above.h)
	for i := range n {
		fade := float32(i) / float32(n)
		for j := range min(t.w, above.w) * t.c {
			a := above.px[(above.h-n+i)*above.w*t.c+j]
			b := &t.px[i*t.w*t.c+j]
			*b = a*(1-fade) + *b*fade
		}
	}
}

func (t tile) blendRight(left tile, n int) {
	n = min(n, t.w, left.w)
	for i := range min(t.h, left.h) {
		for j := range n {
			fade := float32(j) / float32(n)
			for c := range t.c {
				a := left.px[(i*left.w+left.w-n+j)*t.c+c]
				b := &t.px[(i*t.w+j)*t.c+c]
				*b = a*(1-fade) + *b*fade
			}
		}
	}
}
