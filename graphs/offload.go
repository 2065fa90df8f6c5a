package graphs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/offload"
)

// Note [Offloading]
//
// With a strategy the pipeline runs on a device with memory of its own: one arena of exactly the plan's peak.
// What an image will run is known from the request: session lists the compiled graphs in order, the strategy
// plans them, the engine copies. Each graph's values are bound to their places in the arena once, since a plan
// gives every weight one address; the engine says when a weight's bytes are there.

// WithOffload runs the pipeline in the device memory a strategy plans. The pictures are the same, to the bit.
func WithOffload(s offload.Strategy) Option {
	return func(o *options) { o.strategies = append(o.strategies, s) }
}

// WithPlan runs a plan made before. It must be for the same model and request.
func WithPlan(p *offload.Plan) Option { return WithOffload(replay{p}) }

type replay struct{ plan *offload.Plan }

func (r replay) Name() string                                   { return r.plan.Strategy }
func (r replay) Plan(*offload.Inventory) (*offload.Plan, error) { return r.plan, nil }

// WithHooks calls before and after, either of which may be nil, around every call of a kernel. Without a strategy the
// pipeline then runs as with offload.None.
func WithHooks(before, after func(HookEvent)) Option {
	return func(o *options) { o.before, o.after = before, after }
}

// WithTrace notes when every call and copy of an offloaded image ran, for OffloadStats.Events.
func WithTrace() Option { return func(o *options) { o.trace = true } }

// HookEvent is a call as a hook sees it.
type HookEvent struct {
	Component string
	Layer     string        // checkpoint name
	Pass      int           // of the component's graph in this image: the step of the UNet's loop
	Weights   int           // bytes of the weights it reads
	Clock     time.Duration // since the image was begun
}

// OffloadStats is what offloading took for an image.
type OffloadStats struct {
	Strategy string
	Peak     int           // bytes of device memory
	Uploaded int64         // bytes
	CopyTime time.Duration // the copy engine was busy
	Stalled  time.Duration // calls waited for it

	Plan      *offload.Plan
	Inventory *offload.Inventory
	Events    []offload.Event // with WithTrace
}

// Hidden is the share of the copies' time behind which something was computed.
func (s *OffloadStats) Hidden() float64 {
	if s.CopyTime == 0 {
		return 1
	}
	return max(0, 1-s.Stalled.Seconds()/s.CopyTime.Seconds())
}

// maxPhases bounds the phases of a plan, whose time grows with their square. The most of a real model is a tenth of it.
const maxPhases = 4096

// stages lists what a request runs, in order.
func (p *TextToImage) stages(r Request, c *course) (all []Stage, err error) {
	add := func(vm *VM, component, name string, passes int) {
		if k := len(all) - 1; k >= 0 && all[k].VM == vm {
			all[k].Passes += passes
			return
		}
		all = append(all, Stage{VM: vm, Component: component, Name: name, Passes: passes})
	}
	sides := p.sides(r)
	texts := toEncode(sides)
	for _, skip := range slices.Sorted(maps.Keys(texts)) {
		for k, e := range p.encoders {
			n, err := p.encoder(e, len(texts[skip]), p.textOptions(k, skip))
			if err != nil {
				return nil, err
			}
			add(n.VM, e.component, "", 1)
		}
	}
	rows, shape := len(sides)*r.NumImagesPerPrompt, p.latentShape(r)
	d, err := p.denoising(c, shape[0], rows, shape[2], shape[3], p.tokens(sides))
	if err != nil {
		return nil, err
	}
	if d.text != nil {
		add(d.text, "unet", "text", 1)
	}
	if d.time != nil {
		add(d.time, "unet", "time", (len(c.steps)+d.chunk-1)/d.chunk)
	}
	add(d.loop, "unet", "", len(c.steps))
	decode := func(_, _, h, w int) error {
		n, err := p.decoder(h, w)
		if err != nil {
			return err
		}
		if add(n.VM, "vae", "", 1); len(all) > maxPhases {
			return &RequestError{"num_images_per_prompt", fmt.Sprintf("is %d of %dx%d pixels, whose tiles are more than the %d parts that are planned; ask for fewer at a time",
				r.NumImagesPerPrompt, r.Width, r.Height, maxPhases)}
		}
		return nil
	}
	tiles, tiled := p.tiles(shape[2], shape[3])
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

// Inventory is what a request will run, as strategies see it. Nothing is loaded.
func (p *TextToImage) Inventory(req Request) (inv *offload.Inventory, err error) {
	defer program.Recovered(&err)
	err = p.host.do(context.Background(), func(context.Context) error {
		_, _, stages, err := p.list(req)
		if err == nil {
			inv, _ = p.inventory(stages)
		}
		return err
	})
	return inv, err
}

// list resolves a request and lists its stages.
func (p *TextToImage) list(req Request) (Request, *course, []Stage, error) {
	r, err := p.Resolve(req)
	if err != nil {
		return r, nil, nil, err
	}
	c, err := p.course(r)
	if err != nil {
		return r, nil, nil, err
	}
	p.trim()
	stages, err := p.stages(r, c)
	return r, c, stages, err
}

// Plan makes the plan for a request without running it.
func (p *TextToImage) Plan(req Request, s offload.Strategy) (plan *offload.Plan, inv *offload.Inventory, err error) {
	defer program.Recovered(&err)
	err = p.host.do(context.Background(), func(context.Context) error {
		r, c, stages, err := p.list(req)
		if err != nil {
			return err
		}
		plan, inv, _, _, err = p.planned(r, c, stages, s)
		p.tile = 0
		return err
	})
	return plan, inv, err
}

// planned plans stages. Where a budget is too small for the VAE's activations the picture is decoded in tiles,
// the largest that fit.
func (p *TextToImage) planned(r Request, c *course, stages []Stage, s offload.Strategy) (*offload.Plan, *offload.Inventory, []stored, []Stage, error) {
	p.tile = 0
	inv, list := p.inventory(stages)
	plan, err := planOf(s, inv)
	var small *offload.BudgetError
	first := err
	whole := max(r.Height, r.Width)
	for _, eighths := range []int{7, 6, 5, 4, 3, 2, 1} {
		if !errors.As(err, &small) {
			break
		}
		// A tile's overlap, a quarter of it, must be whole latents.
		unit := 4 * p.vae.Scale()
		if p.tile = whole * eighths / 8 / unit * unit; p.tile < 2*unit {
			break
		}
		if stages, err = p.stages(r, c); err != nil {
			break
		}
		inv, list = p.inventory(stages)
		plan, err = planOf(s, inv)
	}
	if errors.As(err, &small) {
		err = first // not even with the smallest tiles
	}
	if err != nil {
		return nil, nil, nil, nil, err
	}
	return plan, inv, list, stages, nil
}

// begin plans a request, or takes the plan of the last one like it, and starts its copies.
func (p *TextToImage) begin(ctx context.Context, r Request, c *course) error {
	if !p.offloaded() {
		return nil
	}
	strategy, err := p.strategy()
	if err != nil {
		return err
	}
	p.tile = 0
	stages, err := p.stages(r, c)
	if err != nil {
		return err
	}
	if key := describe(stages); p.session == nil || p.session.key != key {
		if err := p.endSession(); err != nil {
			return err
		}
		plan, inv, list, stages, err := p.planned(r, c, stages, strategy)
		if err != nil {
			return err
		}
		if err := p.newSession(ctx, key, plan, inv, list, stages); err != nil {
			return err
		}
		p.session.tile = p.tile
	}
	p.tile = p.session.tile
	return p.session.begin()
}

// finish ends an image, complete or not.
func (p *TextToImage) finish() (*OffloadStats, error) {
	p.tile = 0
	return p.host.finish()
}
