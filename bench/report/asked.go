package main

import (
	"fmt"
	"math"
	"strings"
)

// asked is a figure that a run on a GPU is to show, as a ratio within the run.
type asked struct {
	figure string
	most   float64 // 0: at least least
	least  float64
	goal   float64
	of     func(r record) (float64, bool)
}

// figures are what CUDA work is measured by. The variants' names are those of bench/peers/gpu.py.
var figures = []asked{
	{"SD 1.5 512, UNet step / diffusers fp16 SDPA", 0.7, 0, 0.40, to("sd15, 512x512, GPU", ours, "resident", "UNet step")},
	{"SDXL 1024, UNet step / diffusers fp16 SDPA", 0.7, 0, 0.55, to("sdxl, 1024x1024, GPU", ours, "resident", "UNet step")},
	{"SDXL 1024, VAE decode / diffusers", 0.8, 0, 0, to("sdxl, 1024x1024, GPU", ours, "resident", "VAE decode")},
	{"SD 1.5, error of fp16 latents / PyTorch's", 2, 0, 0, to("sd15, 512x512, GPU", ours, "resident", latentError)},
	{"SDXL, error of fp16 latents / PyTorch's", 2, 0, 0, to("sdxl, 1024x1024, GPU", ours, "resident", latentError)},
	{"GEMM / cuBLASLt, the largest shapes", 1.5, 0, 1.12, libraries("The largest shapes, and cuBLASLt", "cuBLASLt")},
	{"conv 3x3 / cuDNN, the largest shapes", 1.4, 0, 1.0, libraries("The largest shapes, and cuDNN", "cuDNN")},
	{"SD 1.5, offload step / max(resident, bytes / link)", 1.15, 0, 1.04, bound("sd15, 512x512, GPU")},
	{"SDXL, offload step / max(resident, bytes / link)", 1.15, 0, 1.04, bound("sdxl, 1024x1024, GPU")},
	{"SDXL, use of the link", 0, 0.90, 0, link("sdxl, 1024x1024, GPU")},
	{"SDXL, offload step / diffusers group offload, streams", 0.4, 0, 0, to("sdxl, 1024x1024, GPU", streamed, "group offload, leaf, stream", "UNet step")},
	{"SDXL, offload step / diffusers sequential offload", 0.12, 0, 0, to("sdxl, 1024x1024, GPU", streamed, "sequential offload", "UNet step")},
}

// streamed is the variant that streams every layer.
const (
	streamed    = "euryale, sequential, window"
	latentError = "error of latents, 2 steps"
	perStep     = "uploaded in a step"
	linkRate    = "copy to the device, page-locked, alone"
)

// in are the samples of a case.
func (r record) in(c string) (t table) {
	for _, s := range r.Samples {
		if s.Case == c {
			t.samples = append(t.samples, s)
		}
	}
	return t
}

// to is one engine's time as a part of another's.
func to(c, engine, rival, quantity string) func(record) (float64, bool) {
	return func(r record) (float64, bool) {
		t := r.in(c)
		return ratio(t.of(engine, quantity), t.of(rival, quantity))
	}
}

// libraries is the geometric mean, over the shapes, of our time as a part of the library's.
func libraries(c, library string) func(record) (float64, bool) {
	return func(r record) (float64, bool) {
		t := r.in(c)
		var shapes []string
		for _, s := range t.samples {
			shapes = first(shapes, s.Quantity)
		}
		sum := 0.0
		for _, q := range shapes {
			x, ok := ratio(t.of(ours, q), t.of(library, q))
			if !ok {
				return 0, false
			}
			sum += math.Log(x)
		}
		return math.Exp(sum / float64(len(shapes))), len(shapes) > 0
	}
}

// medians are those of a quantity of an engine, false if it was not measured.
func (t table) median(engine, quantity string) (float64, bool) {
	var x []float64
	for _, s := range t.of(engine, quantity) {
		x = append(x, s.Value)
	}
	if len(x) == 0 {
		return 0, false
	}
	return median(x), true
}

// streaming is what a step takes that streams, the bytes of a step, and how long the link takes for them.
func streaming(r record, c string) (step, least float64, ok bool) {
	t := r.in(c)
	step, measured := t.median(streamed, "UNet step")
	bytes, known := t.median(streamed, perStep)
	var rates []float64
	for _, s := range r.in("limits of the machine").of("", linkRate) {
		rates = append(rates, s.Work/s.Value)
	}
	if !measured || !known || len(rates) == 0 {
		return 0, 0, false
	}
	return step, bytes / median(rates), true
}

// bound is a step that streams over what bounds it: everything resident, or the link.
func bound(c string) func(record) (float64, bool) {
	return func(r record) (float64, bool) {
		step, least, ok := streaming(r, c)
		resident, known := r.in(c).median(ours, "UNet step")
		return step / max(least, resident), ok && known
	}
}

// link is the share of a streaming step in which the link is busy at its full rate.
func link(c string) func(record) (float64, bool) {
	return func(r record) (float64, bool) {
		step, least, ok := streaming(r, c)
		return least / step, ok
	}
}

// verdict is a table of the figures; a record of another kind has none.
func (r record) verdict(b *strings.Builder) {
	if len(r.in("limits of the machine").of("", linkRate)) == 0 {
		return
	}
	b.WriteString("\n### Figures asked for\n\n| | asked | goal | measured |\n|---|---|---|---|\n")
	for _, f := range figures {
		text, goal := "not measured", ""
		if v, ok := f.of(r); ok {
			text = fmt.Sprintf("%.2f", v)
			if f.most > 0 && !(v <= f.most) || f.least > 0 && !(v >= f.least) {
				text += ", missed"
			}
		}
		if f.goal > 0 {
			goal = fmt.Sprintf("%.2f", f.goal)
		}
		want := fmt.Sprintf("at most %.2f", f.most)
		if f.least > 0 {
			want = fmt.Sprintf("at least %.2f", f.least)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", f.figure, want, goal, text)
	}
}
