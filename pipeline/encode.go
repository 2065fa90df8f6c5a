package pipeline

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"math"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

// ImageEncoder is the VAE's encoder for pictures of one size.
type ImageEncoder struct {
	p       *TextToImage
	network network[[]float32]
	h, w    int // of the picture
}

// NewImageEncoder compiles the encoder for pictures of height and width pixels.
func (p *TextToImage) NewImageEncoder(height, width int) (e *ImageEncoder, err error) {
	defer stack.Add(&err)
	for field, n := range map[string]int{"height": height, "width": width} {
		if err := p.checkSide(field, n); err != nil {
			return nil, err
		}
	}
	e = &ImageEncoder{p: p, h: height, w: width}
	o := graphs.CompileOptions{Float32: p.family.upcastsVAE && p.vae.ForceUpcast}
	e.network, err = build(p, "vae", o, func(s layers.Scope) (in []float32, out []*G.Node, err error) {
		x := s.Input("sample", G.Float32, 1, height, width, 3)
		moments, err := vae.Encode(s, p.vae, x)
		if err != nil {
			return nil, nil, err
		}
		in, err = graphs.Bind[float32](x)
		return in, []*G.Node{moments}, err
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Stage is what Encode runs. Every picture that is encoded in a run is a pass.
func (e *ImageEncoder) Stage(pictures int) graphs.Stage {
	return graphs.Stage{VM: e.network.VM, Component: "vae", Name: "encoder", Passes: pictures, Keep: e.network.out}
}

// Encode gives the latents of a picture, [1 L h w], as the UNet knows them: a sample of the encoder's distribution, as
// diffusers draws it, or without noise its mean.
func (e *ImageEncoder) Encode(ctx context.Context, run *graphs.Run, img image.Image, noise *Noise) (latents []float32, err error) {
	defer stack.Add(&err)
	b := img.Bounds()
	if b.Dy() != e.h || b.Dx() != e.w {
		return nil, &RequestError{"image", fmt.Sprintf("is of %dx%d pixels, want %dx%d", b.Dx(), b.Dy(), e.w, e.h)}
	}
	for i := range e.h * e.w {
		c := color.NRGBAModel.Convert(img.At(b.Min.X+i%e.w, b.Min.Y+i/e.w)).(color.NRGBA)
		for k, v := range []uint8{c.R, c.G, c.B} {
			e.network.in[3*i+k] = float32(v)/255*2 - 1
		}
	}
	if err := run.Pass(ctx, e.network.VM); err != nil {
		return nil, err
	}
	moments := values(e.network.out[0]) // [1 h w 2L]
	scale, l := e.p.vae.Scale(), e.p.vae.LatentChannels
	n := e.h / scale * e.w / scale
	latents = make([]float32, l*n)
	if noise != nil {
		noise.Randn(latents)
	}
	for c := range l {
		for i := range n {
			std := float32(math.Exp(0.5 * float64(min(max(moments[i*2*l+l+c], -30), 20))))
			at := &latents[c*n+i]
			*at = (moments[i*2*l+c] + std**at) * e.p.vae.ScalingFactor
		}
	}
	return latents, nil
}
