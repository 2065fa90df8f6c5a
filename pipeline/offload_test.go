package pipeline_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// hash is of a result's latents and pixels, every bit of them.
func hash(res *pipeline.Result) string {
	h := sha256.New()
	binary.Write(h, binary.LittleEndian, res.Latents.Float32s())
	for _, img := range res.Images {
		h.Write(img.(*image.NRGBA).Pix)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func smallRequest() pipeline.Request {
	return pipeline.Request{Prompt: red, NumInferenceSteps: 3, Scheduler: "ddim", Seed: pipeline.Seed(5)}
}

// TestOneHash: no strategy, budget or hoisting choice changes a bit, and the device's peak is the plan's.
func TestOneHash(t *testing.T) {
	for _, folder := range []string{"sd1", "sd2", "sdxl"} {
		t.Run(folder, func(t *testing.T) {
			p := openGolden(t, folder)
			req := smallRequest()
			res, err := p.Generate(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			want := hash(res)
			inv, err := p.Inventory(req)
			if err != nil {
				t.Fatal(err)
			}
			strategies := []offload.Strategy{
				offload.None(), offload.Model(), offload.Sequential(), offload.Sequential(offload.Prefetch(1 << 16)),
				offload.Group(1), offload.Group(4), offload.Group(3, offload.Prefetch(1<<17)),
				offload.Sequential(offload.Keep("unet.mid_block"), offload.Exclude("text_encoder")),
			}
			low, high := offload.Smallest(inv), peak(t, inv, offload.None())
			budgets := bounded.Some(64, 5)
			for i := range budgets {
				strategies = append(strategies, offload.Auto(low+(high-low)*i/(budgets-1)))
			}
			for _, every := range []bool{false, true} {
				opts := []graphs.Option{}
				if every {
					opts = append(opts, pipeline.WithoutHoisting())
					strategies = strategies[:9]
				}
				p := openGolden(t, folder, opts...)
				for _, s := range strategies {
					if err := p.SetOffload(s); err != nil {
						t.Fatal(err)
					}
					plan, _, err := p.Plan(req, s)
					if err != nil && every {
						continue // a budget of the hoisted pipeline
					}
					if err != nil {
						t.Fatalf("%s: %v", s.Name(), err)
					}
					for run := range 2 {
						res, err := p.Generate(t.Context(), req)
						if err != nil {
							t.Fatalf("%s: %v", s.Name(), err)
						}
						if got := hash(res); got != want {
							t.Fatalf("%s, run %d: hash %s, want %s", s.Name(), run, got, want)
						}
						if res.Offload.Peak != plan.Peak {
							t.Fatalf("%s: peak %d bytes, planned %d", s.Name(), res.Offload.Peak, plan.Peak)
						}
					}
				}
			}
		})
	}
}

func peak(t *testing.T, inv *offload.Inventory, s offload.Strategy) int {
	t.Helper()
	p, err := s.Plan(inv)
	if err != nil {
		t.Fatal(err)
	}
	return p.Peak
}

// TestModelUploadsOnce: each weight once per image, and nothing the second time with None.
func TestModelUploadsOnce(t *testing.T) {
	p := openGolden(t, "sdxl")
	inv, err := p.Inventory(smallRequest())
	if err != nil {
		t.Fatal(err)
	}
	var weights int64
	for _, w := range inv.Weights {
		weights += int64(w.Bytes)
	}
	for _, c := range []struct {
		s             offload.Strategy
		first, second int64
	}{{offload.Model(), weights, weights}, {offload.None(), weights, 0}} {
		if err := p.SetOffload(c.s); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int64{c.first, c.second} {
			res, err := p.Generate(t.Context(), smallRequest())
			if err != nil {
				t.Fatal(err)
			}
			if res.Offload.Uploaded != want {
				t.Errorf("%s, image %d: %d bytes uploaded, want %d", c.s.Name(), i, res.Offload.Uploaded, want)
			}
		}
	}
}

func TestOffloadErrors(t *testing.T) {
	p := openGolden(t, "sd1", graphs.WithOffload(offload.None()), graphs.WithOffload(offload.Model()))
	if _, err := p.Generate(t.Context(), smallRequest()); err == nil || !strings.Contains(err.Error(), "two strategies, none and model") {
		t.Errorf("two strategies: %v", err)
	}
	var name *offload.NameError
	p.SetOffload(offload.Sequential(offload.Keep("unet.mid_blok")))
	if _, err := p.Generate(t.Context(), smallRequest()); !errors.As(err, &name) || name.Nearest[0] != "unet.mid_block" {
		t.Errorf("a name that matches nothing: %v", err)
	}
	var budget *offload.BudgetError
	p.SetOffload(offload.Auto(1 << 10))
	if _, err := p.Generate(t.Context(), smallRequest()); !errors.As(err, &budget) || budget.Smallest <= budget.Have || budget.Layer == "" {
		t.Errorf("a budget that cannot work: %v", err)
	}
	// What the error says is the smallest works, with tiles, and a byte less does not.
	for less, want := range []bool{true, false} {
		p.SetOffload(offload.Auto(budget.Smallest - less))
		if _, err := p.Generate(t.Context(), smallRequest()); (err == nil) != want {
			t.Errorf("%d bytes, the smallest being %d: %v", budget.Smallest-less, budget.Smallest, err)
		}
	}
	// The smallest that works without tiles does work, and a byte less does not.
	inv, _ := p.Inventory(smallRequest())
	smallest := offload.Smallest(inv)
	if _, err := offload.Auto(smallest).Plan(inv); err != nil {
		t.Error(err)
	}
	if _, err := offload.Auto(smallest - 1).Plan(inv); err == nil {
		t.Error("a byte less than the smallest budget is planned")
	}
	p.Close()
	if err := p.SetOffload(offload.None()); !errors.Is(err, graphs.ErrClosed) {
		t.Errorf("a strategy on a closed pipeline: %v", err)
	}
}

// TestPlanReplays: a plan written as JSON and read again runs and gives the same picture.
func TestPlanReplays(t *testing.T) {
	p := openGolden(t, "sd1")
	res, err := p.Generate(t.Context(), smallRequest())
	if err != nil {
		t.Fatal(err)
	}
	plan, _, err := p.Plan(smallRequest(), offload.Sequential(offload.Prefetch(1<<16)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	again, err := offload.ReadPlan(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	q := openGolden(t, "sd1", graphs.WithPlan(again))
	got, err := q.Generate(t.Context(), smallRequest())
	if err != nil {
		t.Fatal(err)
	}
	if hash(got) != hash(res) {
		t.Error("the replayed plan gives another picture")
	}
	req := smallRequest()
	req.NumImagesPerPrompt = 2
	if _, err := q.Generate(t.Context(), req); err == nil {
		t.Error("a plan for another request runs")
	}
}

// TestCancelOffloaded stops an image at many calls; the next is whole.
func TestCancelOffloaded(t *testing.T) {
	var stop func()
	count, at := 0, -1
	p := openGolden(t, "sd1", graphs.WithHooks(graphs.Hook{Before: func(graphs.Call) error {
		if count == at {
			stop()
		}
		count++
		return nil
	}}))
	p.SetOffload(offload.Sequential(offload.Prefetch(1 << 16)))
	res, err := p.Generate(t.Context(), smallRequest())
	if err != nil {
		t.Fatal(err)
	}
	calls, want := count, hash(res)
	for at = 0; at < calls; at += max(1, calls/20) {
		ctx, cancel := context.WithCancel(t.Context())
		stop, count = cancel, 0
		if _, err := p.Generate(ctx, smallRequest()); !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled at call %d: %v", at, err)
		}
		if count > at+1 {
			t.Fatalf("cancelled at call %d, %d ran", at, count)
		}
		cancel()
	}
	at = -1
	if res, err = p.Generate(t.Context(), smallRequest()); err != nil || hash(res) != want {
		t.Errorf("after cancelling: %v", err)
	}
}

// TestHooks sees every layer of the loop in every step, with the weights it reads.
func TestHooks(t *testing.T) {
	for name, more := range map[string][]graphs.Option{"model": {graphs.WithOffload(offload.Model())}, "no strategy": nil} {
		t.Run(name, func(t *testing.T) {
			seen, bytes := 0, 0
			p := openGolden(t, "sd1", append(more, graphs.WithHooks(
				graphs.Hook{Component: "unet", Layer: "unet.conv_in", After: func(c graphs.Call) error { seen |= 1 << c.Pass; return nil }},
				graphs.Hook{After: func(c graphs.Call) error { bytes += c.Weights; return nil }}))...)
			if _, err := p.Generate(t.Context(), smallRequest()); err != nil {
				t.Fatal(err)
			}
			if seen != 7 || bytes == 0 {
				t.Errorf("steps %b of conv_in were seen, %d bytes of weights", seen, bytes)
			}
		})
	}
}

// What is no strategy, or makes no plan, is an error and not a panic.
func TestNilStrategies(t *testing.T) {
	for _, s := range []offload.Strategy{nil, planless{}} {
		_, err := openGolden(t, "sd1", graphs.WithOffload(s)).Generate(t.Context(), smallRequest())
		if err == nil || errors.As(err, new(*graphs.PanicError)) {
			t.Errorf("%v: %v", s, err)
		}
	}
}

type planless struct{}

func (planless) Name() string                                   { return "planless" }
func (planless) Plan(*offload.Inventory) (*offload.Plan, error) { return nil, nil }

// A pipeline for planning has the sizes of a device that is not there: half the activations and weights in 16 bits,
// and no picture.
func TestForPlanning(t *testing.T) {
	size := func(p *pipeline.TextToImage) (weights, activations int) {
		inv, err := p.Inventory(small())
		if err != nil {
			t.Fatal(err)
		}
		for _, ph := range inv.Phases {
			if ph.Component == "unet" && ph.Name == "" {
				activations = ph.Activations
			}
		}
		return inv.WeightBytes("unet"), activations
	}
	p := openGolden(t, "sd1", graphs.ForPlanning("f16"))
	w16, a16 := size(p)
	w32, a32 := size(openGolden(t, "sd1", graphs.ForPlanning("f32")))
	if !(w16 < w32*2/3 && a16 < a32*2/3) {
		t.Errorf("%d bytes of weights and %d of activations in f16, %d and %d in f32", w16, a16, w32, a32)
	}
	if _, err := p.Generate(t.Context(), small()); err == nil || !strings.Contains(err.Error(), "for planning") {
		t.Errorf("a picture: %v", err)
	}
}

// More memory is never slower, by the planner's own clock, also where it is just enough for a picture in one piece.
func TestMoreMemoryIsNeverSlower(t *testing.T) {
	m, err := loader.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m, graphs.ForPlanning("f16"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	profile, err := offload.ProfileByName("rtx4090-gen4")
	if err != nil {
		t.Fatal(err)
	}
	profile.FLOPs, profile.Memory, profile.Link = profile.FLOPs/2000, profile.Memory/100, profile.Link/100 // in proportion to the model
	r := pipeline.Request{NumInferenceSteps: 8, Height: 128, Width: 128}
	_, inv, err := p.Plan(r, offload.None())
	if err != nil {
		t.Fatal(err)
	}
	whole := offload.Smallest(inv) // without tiles
	last, tiled := math.Inf(1), 0
	for budget := whole * 3 / 4; budget < whole*5/4; budget += whole / 64 / some(1) {
		plan, inv, err := p.Plan(r, offload.Auto(budget, offload.On(profile)))
		if err != nil {
			continue
		}
		if plan.Peak > budget {
			t.Errorf("%d bytes of %d are planned", plan.Peak, budget)
		}
		total := offload.Simulate(plan, inv, profile).Total
		if total > last*1.0001 {
			t.Errorf("%d bytes: %.5g s, with less %.5g s", budget, total, last)
		}
		if budget < whole {
			tiled++
		}
		last = min(last, total)
	}
	if tiled == 0 || math.IsInf(last, 1) {
		t.Errorf("%d budgets are too small for a picture in one piece, the fastest takes %g s", tiled, last)
	}
}
