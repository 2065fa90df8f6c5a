package offload

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Event is a call or a copy on a clock.
type Event struct {
	Name       string // the layer, or the first weight copied
	Copy       bool
	Begin, End time.Duration // since the image was begun
	Bytes      int           // copied
	Live       int           // of a call: bytes of the arena that hold something during it
}

// Trace is what Simulate's clock saw: every call and every copy of an image.
func Trace(p *Plan, inv *Inventory, prof Profile) []Event {
	var events []Event
	simulate(p, inv, prof, func(e Event) { events = append(events, e) })
	addLive(p, inv, events)
	return events
}

// addLive fills in, for each call, the activations alive and the weights that are there or on their way.
func addLive(p *Plan, inv *Inventory, events []Event) {
	t := newTimeline(inv)
	change := make([]int, t.end+2)
	t.copies(p, 0, func(c copyOf) {
		n := p.Loads[c.load].Bytes
		change[c.start+1] += n
		change[min(c.done, t.end)+1] -= n
	})
	var tops []int
	for i := range inv.Phases {
		for range inv.Phases[i].Passes {
			for _, c := range inv.Phases[i].Calls {
				tops = append(tops, c.Top)
			}
		}
	}
	weights, pos := 0, 0
	for i := range events {
		if !events[i].Copy && pos < t.end {
			weights += change[pos]
			events[i].Live = weights + tops[pos]
			pos++
		}
	}
}

// WriteTrace writes traces for chrome://tracing and Perfetto: a process for each, with a row of calls, a row of copies
// and a counter of bytes copied.
func WriteTrace(w io.Writer, traces map[string][]Event) error {
	type entry struct {
		Name    string         `json:"name"`
		Phase   string         `json:"ph"`
		Time    float64        `json:"ts"`
		Dur     float64        `json:"dur,omitempty"`
		Process int            `json:"pid"`
		Thread  int            `json:"tid"`
		Args    map[string]any `json:"args,omitempty"`
	}
	const compute, copies = 1, 2
	micro := func(d time.Duration) float64 { return float64(d) / 1e3 }
	var all []entry
	for i, name := range slices.Sorted(maps.Keys(traces)) {
		all = append(all, entry{"process_name", "M", 0, 0, i, 0, map[string]any{"name": name}},
			entry{"thread_name", "M", 0, 0, i, compute, map[string]any{"name": "compute"}},
			entry{"thread_name", "M", 0, 0, i, copies, map[string]any{"name": "copy"}})
		sum := 0
		for _, e := range traces[name] {
			if !e.Copy {
				all = append(all, entry{e.Name, "X", micro(e.Begin), micro(e.End - e.Begin), i, compute, nil})
				continue
			}
			sum += e.Bytes
			all = append(all, entry{e.Name, "X", micro(e.Begin), micro(e.End - e.Begin), i, copies, map[string]any{"bytes": e.Bytes}},
				entry{"uploaded", "C", micro(e.End), 0, i, 0, map[string]any{"bytes": sum}})
		}
	}
	return json.NewEncoder(w).Encode(map[string]any{"traceEvents": all, "displayTimeUnit": "ms"})
}

// Curve2D is a line of a picture.
type Curve2D struct {
	Name string
	X, Y []float64
}

// MemoryCurve is the device memory in use over the time of a trace, in seconds and MiB.
func MemoryCurve(name string, events []Event) Curve2D {
	c := Curve2D{Name: name}
	for _, e := range events {
		if !e.Copy {
			c.X = append(c.X, e.Begin.Seconds(), e.End.Seconds())
			c.Y = append(c.Y, float64(e.Live)/(1<<20), float64(e.Live)/(1<<20))
		}
	}
	return c
}

// WriteSVG draws curves over the same axes, y from zero, with a dashed line at budget unless that is 0.
func WriteSVG(w io.Writer, xLabel, yLabel string, budget float64, curves ...Curve2D) error {
	const width, height, left, bottom, top, right = 900, 420, 80, 50, 20, 170
	colours := []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"}
	var xMax, yMax float64 = 1e-12, budget
	for _, c := range curves {
		for i := range c.X {
			xMax, yMax = max(xMax, c.X[i]), max(yMax, c.Y[i])
		}
	}
	yMax = max(yMax*1.05, 1e-12)
	px := func(x float64) float64 { return left + x/xMax*(width-left-right) }
	py := func(y float64) float64 { return height - bottom - y/yMax*(height-bottom-top) }
	out := &stickyWriter{w: w}
	out.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	out.printf(`<rect width="100%%" height="100%%" fill="white"/>` + "\n")
	for i := range 6 {
		x, y := xMax*float64(i)/5, yMax*float64(i)/5
		out.printf(`<text x="%.1f" y="%d" text-anchor="middle">%.3g</text>`+"\n", px(x), height-bottom+18, x)
		out.printf(`<text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n", left-8, py(y)+4, y)
		out.printf(`<path d="M%d %.1fH%d" stroke="#ddd"/>`+"\n", left, py(y), width-right)
	}
	out.printf(`<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, height-10, xLabel)
	out.printf(`<text x="20" y="%d" text-anchor="middle" transform="rotate(-90 20 %d)">%s</text>`+"\n", height/2, height/2, yLabel)
	if budget > 0 {
		out.printf(`<path d="M%d %.1fH%d" stroke="black" stroke-dasharray="6 4"/><text x="%d" y="%.1f">budget</text>`+"\n", left, py(budget), width-right, width-right+6, py(budget)+4)
	}
	for i, c := range curves {
		colour := colours[i%len(colours)]
		out.printf(`<path fill="none" stroke="%s" stroke-width="1.5" d="`, colour)
		command := 'M'
		for k := 0; k < len(c.X); command = 'L' {
			// All points of one column of pixels are a line from the lowest to the highest.
			x, low, high := px(c.X[k]), c.Y[k], c.Y[k]
			for ; k < len(c.X) && px(c.X[k]) < x+1; k++ {
				low, high = min(low, c.Y[k]), max(high, c.Y[k])
			}
			out.printf("%c%.0f %.1f", command, x, py(low))
			if high > low {
				out.printf("V%.1f", py(high))
			}
		}
		out.printf("\"/>\n"+`<text x="%d" y="%d" fill="%s">%s</text>`+"\n", width-right+6, top+30+20*i, colour, c.Name)
	}
	out.printf("</svg>\n")
	return out.err
}

type stickyWriter struct {
	w   io.Writer
	err error
}

func (s *stickyWriter) printf(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.w, format, args...)
	}
}
