package pipeline

import (
	"context"
	"fmt"
	"image"
	"math"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

func (p *TextToImage) buildDecoder(s layers.Scope, h, w int) ([]float32, []*G.Node, error) {
	z := s.Input("latents", G.Float32, 1, h, w, p.vae.LatentChannels)
	out, err := vae.Decode(s, p.vae, z)
	if err != nil {
		return nil, nil, err
	}
	in, err := graphs.Bind[float32](z)
	return in, []*G.Node{out}, err
}

// Decode turns latents [N L h w] into pictures, one after the other.
func (j *Job) Decode(ctx context.Context, run *graphs.Run, latents []float32) (images []image.Image, err error) {
	defer stack.Add(&err)
	p, c, h, w := j.p, j.shape[1], j.shape[2], j.shape[3]
	for i := range j.shape[0] {
		z := make([]float32, c*h*w)
		channelsLast(z, latents[i*len(z):][:len(z)], c)
		for k := range z {
			z[k] /= p.vae.ScalingFactor
		}
		px, err := j.decodeOne(ctx, run, z, h, w)
		if err != nil {
			return nil, err
		}
		images = append(images, picture(px, j.req.Height, j.req.Width))
	}
	return images, nil
}

// decodeOne decodes one picture, in tiles if the picture is larger than one.
//
//	z      [h w L]
//	result [H W 3]   valid until the next run
func (j *Job) decodeOne(ctx context.Context, run *graphs.Run, z []float32, h, w int) ([]float32, error) {
	p := j.p
	decode := func(z []float32, h, w int) ([]float32, error) {
		n, err := j.decoder(h, w)
		if err != nil {
			return nil, err
		}
		copy(n.in, z)
		if err := run.Pass(ctx, n.VM); err != nil {
			return nil, err
		}
		return values(n.out[0]), nil
	}
	tiles, tiled := p.tiles(h, w, j.tile)
	if !tiled {
		return decode(z, h, w)
	}
	px := make([]float32, h*p.vae.Scale()*w*p.vae.Scale()*3)
	return px, tiles.Decode(px, z, h, w, p.vae.LatentChannels, decode)
}

// tiles are those in which h by w latents are decoded, of that many pixels if they are not 0, and false if it is done in
// one piece.
func (p *TextToImage) tiles(h, w, tile int) (t vae.Tiles, tiled bool) {
	t = vae.NewTiles(p.vae)
	if tile > 0 {
		t = p.vae.Tiles(tile)
	}
	return t, (p.tiling || tile > 0) && (h > t.Latent || w > t.Latent)
}

// decoder is the compiled decoder for h by w latents.
func (j *Job) decoder(h, w int) (network[[]float32], error) {
	p := j.p
	return compiled(j, fmt.Sprint("vae ", h, w), func() (network[[]float32], error) {
		o := graphs.CompileOptions{Float32: p.family.upcastsVAE && p.vae.ForceUpcast}
		return build(p, "vae", o, func(s layers.Scope) ([]float32, []*G.Node, error) { return p.buildDecoder(s, h, w) })
	})
}

// picture turns [h w 3] from -1 to 1 into 8 bits a channel, rounding to even as numpy does.
func picture(px []float32, h, w int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		for c := range 3 {
			v := min(max(px[3*i+c]*0.5+0.5, 0), 1)
			img.Pix[4*i+c] = uint8(math.RoundToEven(float64(v * 255)))
		}
		img.Pix[4*i+3] = 255
	}
	return img
}
