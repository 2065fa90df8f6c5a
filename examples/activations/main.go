// Command activations collects the statistics of every activation of a UNet, in every step, by a hook: least, largest and
// mean, and how many are not finite. It says what that costs.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// layer is what was seen of one call over all steps.
type layer struct {
	name      string
	low, high float32
	nonFinite int
}

func main() {
	pairs := flag.Int("pairs", 0, "also compare the time of that many pairs of pictures, with the hook and without, on stderr")
	flag.Parse()
	m, err := loader.Tiny()
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	request := pipeline.Request{Prompt: "a red circle on a blue background", NumInferenceSteps: 8, Seed: pipeline.Seed(1)}
	draw := func() time.Duration {
		begin := time.Now()
		if _, err := p.Generate(context.Background(), request); err != nil {
			log.Fatal(err)
		}
		return time.Since(begin)
	}

	layers := map[int]*layer{}
	seen := 0
	hook := graphs.Hook{Component: "unet", See: func(c graphs.Call, at *graphs.Tensors) error {
		if c.Stage != "" { // what is the same in all steps
			return nil
		}
		s, err := at.Out.Summary()
		if err != nil {
			return err
		}
		l := layers[c.Index]
		if l == nil {
			l = &layer{name: c.Layer, low: s.Min, high: s.Max}
			layers[c.Index] = l
		}
		l.low, l.high, l.nonFinite = min(l.low, s.Min), max(l.high, s.Max), l.nonFinite+s.NonFinite
		seen++
		return nil
	}}
	remove := p.AddHook(hook)
	draw()
	remove()

	bad, widest := 0, &layer{}
	for _, l := range layers {
		bad += l.nonFinite
		if l.high-l.low > widest.high-widest.low {
			widest = l
		}
	}
	fmt.Printf("%d activations of %d operations in %d steps, %d numbers not finite\n", seen, len(layers), seen/len(layers), bad)
	fmt.Printf("the widest: %s, from %.0f to %.0f\n", widest.name, widest.low, widest.high)

	if *pairs > 0 {
		var ratios []float64
		for range *pairs {
			without := draw()
			remove := p.AddHook(hook)
			with := draw()
			remove()
			ratios = append(ratios, with.Seconds()/without.Seconds())
		}
		slices.Sort(ratios)
		fmt.Fprintf(os.Stderr, "with the hook a picture takes %.2f times as long, the median of %d pairs\n", ratios[len(ratios)/2], len(ratios))
	}
}
