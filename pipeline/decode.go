package pipeline

import (
	"context"
	"fmt"
	"image"
	"math"

	"github.com/euryale-ml/euryale/graphs"
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

// decode turns latents [N L h w] into pictures, one after the other, in tiles of that many pixels if they are not 0.
func (p *TextToImage) decode(ctx context.Context, run *graphs.Run, r Request, latents []float32, tile int) ([]image.Image, error) {
	shape := p.latentShape(r)
	c, h, w := shape[1], shape[2], shape[3]
	var images []image.Image
	for i := range shape[0] {
		z := make([]float32, c*h*w)
		channelsLast(z, latents[i*len(z):][:len(z)], c)
		for j := range z {
			z[j] /= p.vae.ScalingFactor
		}
		px, err := p.decodeOne(ctx, run, z, h, w, tile)
		if err != nil {
			return nil, err
		}
		images = append(images, picture(px, r.Height, r.Width))
	}
	return images, nil
}

// decodeOne decodes one picture, in tiles if the picture is larger than one.
//
//	z      [h w L]
//	result [H W 3]   valid until the next run
func (p *TextToImage) decodeOne(ctx context.Context, run *graphs.Run, z []float32, h, w, tile int) ([]float32, error) {
	decode := func(z []float32, h, w int) ([]float32, error) {
		n, err := p.decoder(h, w)
		if err != nil {
			return nil, err
		}
		copy(n.in, z)
		if err := run.Pass(ctx, n.VM); err != nil {
			return nil, err
		}
		return values(n.out[0]), nil
	}
	tiles, tiled := p.tiles(h, w, tile)
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
func (p *TextToImage) decoder(h, w int) (network[[]float32], error) {
	o := graphs.CompileOptions{Float32: p.family.upcastsVAE && p.vae.ForceUpcast}
	return compiled(p, "vae", fmt.Sprint(h, w), o, func(s layers.Scope) ([]float32, []*G.Node, error) { return p.buildDecoder(s, h, w) })
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
