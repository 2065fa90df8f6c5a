package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/offload"
)

// maxPhases bounds the phases of a plan, whose time grows with their square. The most of a real model is a tenth of it.
const maxPhases = 4096

// stages lists what a request runs, in order: the run itself, and what is planned for it. Tiles of the VAE are of that
// many pixels, 0 for the pipeline's own choice.
func (p *TextToImage) stages(r Request, c *course, tile int) (all []graphs.Stage, err error) {
	sides := p.sides(r)
	texts := toEncode(sides)
	for _, skip := range slices.Sorted(maps.Keys(texts)) {
		for k, e := range p.encoders {
			n, err := p.encoder(e, len(texts[skip]), p.textOptions(k, skip))
			if err != nil {
				return nil, err
			}
			all = append(all, graphs.Stage{VM: n.VM, Component: e.component})
		}
	}
	rows, shape := len(sides)*r.NumImagesPerPrompt, p.latentShape(r)
	d, err := p.denoising(c, shape[0], rows, shape[2], shape[3], p.tokens(sides))
	if err != nil {
		return nil, err
	}
	all = append(all, d.stages(len(c.steps), r.OnStepEnd != nil)...)
	decode := func(_, _, h, w int) error {
		n, err := p.decoder(h, w)
		if err != nil {
			return err
		}
		if last := &all[len(all)-1]; last.VM == n.VM {
			last.Passes++
		} else {
			all = append(all, graphs.Stage{VM: n.VM, Component: "vae", Passes: 1})
		}
		return nil
	}
	tiles, tiled := p.tiles(shape[2], shape[3], tile)
	for range shape[0] {
		if tiled {
			err = tiles.Each(shape[2], shape[3], decode)
		} else {
			err = decode(0, 0, shape[2], shape[3])
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// tokens is the length of the text the UNet sees.
func (p *TextToImage) tokens(sides []side) int {
	for _, s := range sides {
		if s.embeds != nil {
			return s.embeds.Shape()[1]
		}
	}
	return p.encoders[0].tok.MaxLength()
}

// tileSizes are the pixels of the VAE's tiles to be tried, the largest first, where a budget is too small for its
// activations; 0 is the whole picture, or the pipeline's own tiles.
func (p *TextToImage) tileSizes(r Request) iter.Seq[int] {
	return func(yield func(int) bool) {
		// A tile's overlap, a quarter of it, must be whole latents.
		unit := 4 * p.vae.Scale()
		for eighths := 8; eighths > 0; eighths-- {
			tile := max(r.Height, r.Width) * eighths / 8 / unit * unit
			if eighths == 8 {
				tile = 0
			} else if tile < 2*unit {
				return
			}
			if !yield(tile) {
				return
			}
		}
	}
}

// fitTiles finds the largest tiles with which a request's stages can be planned. Where not even the smallest are enough the
// error is that without tiles.
func (p *TextToImage) fitTiles(r Request, c *course, planned bool, try func(stages []graphs.Stage) error) (tile int, err error) {
	var first error
	for tile := range p.tileSizes(r) {
		stages, err := p.stages(r, c, tile)
		if err != nil {
			return 0, err
		}
		if len(stages) > maxPhases && planned {
			return 0, &RequestError{"num_images_per_prompt", fmt.Sprintf("is %d of %dx%d pixels, whose tiles are more than "+
				"the %d parts that are planned; ask for fewer at a time", r.NumImagesPerPrompt, r.Width, r.Height, maxPhases)}
		}
		if err = try(stages); !errors.As(err, new(*offload.BudgetError)) {
			return tile, err
		}
		if first == nil {
			first = err
		}
	}
	return 0, first
}

// begin plans a request, or takes the plan of an earlier one like it, and starts its copies.
func (p *TextToImage) begin(ctx context.Context, r Request, c *course) (run *graphs.Run, tile int, err error) {
	tile, err = p.fitTiles(r, c, p.Planned(), func(stages []graphs.Stage) (err error) {
		run, err = p.Begin(ctx, stages)
		return err
	})
	return run, tile, err
}

// Inventory is what a request will run, as strategies see it. Nothing is loaded.
func (p *TextToImage) Inventory(req Request) (inv *offload.Inventory, err error) {
	defer stack.Add(&err)
	err = p.list(req, func(r Request, c *course) error {
		stages, err := p.stages(r, c, 0)
		if err == nil {
			inv, err = p.Runtime.Inventory(context.Background(), stages)
		}
		return err
	})
	return inv, err
}

// Plan makes the plan for a request without running it.
func (p *TextToImage) Plan(req Request, s offload.Strategy) (plan *offload.Plan, inv *offload.Inventory, err error) {
	defer stack.Add(&err)
	err = p.list(req, func(r Request, c *course) error {
		_, err := p.fitTiles(r, c, true, func(stages []graphs.Stage) error {
			if inv, err = p.Runtime.Inventory(context.Background(), stages); err != nil {
				return err
			}
			plan, err = offload.Make(s, inv)
			return err
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return plan, inv, nil
}

// list resolves a request and has its stages listed, in the caller's turn.
func (p *TextToImage) list(req Request, f func(Request, *course) error) (err error) {
	defer panics.Recovered(&err)
	if err := p.acquire(context.Background()); err != nil {
		return err
	}
	defer p.yield()
	r, err := p.Resolve(req)
	if err != nil {
		return err
	}
	c, err := p.course(r)
	if err != nil {
		return err
	}
	p.trim()
	return f(r, c)
}
