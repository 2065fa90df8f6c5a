// Package plot draws plans and runs: curves as SVG, and traces for chrome://tracing and Perfetto. What it draws comes
// from offload.Trace, offload.Curve, or a run that was traced.
package plot

import (
	"fmt"
	"html"
	"io"
	"math"

	"github.com/euryale-ml/euryale/offload"
)

// Curve is a line of a picture.
type Curve struct {
	Name string
	X, Y []float64 // of the same length, from 0 on
}

// Memory is the device memory in use over the time of a trace, in seconds and MiB.
func Memory(name string, events []offload.Event) Curve {
	c := Curve{Name: name}
	for _, e := range events {
		if !e.Copy {
			c.X = append(c.X, e.Begin.Seconds(), e.End.Seconds())
			c.Y = append(c.Y, float64(e.Live)/(1<<20), float64(e.Live)/(1<<20))
		}
	}
	return c
}

// Axes say what a picture shows.
type Axes struct {
	X, Y   string  // labels, with the unit
	Budget float64 // a dashed line at this height, unless it is 0
}

// Pixels of the picture and of its margins.
const width, height, left, bottom, top, right = 900, 420, 80, 50, 20, 170

var colours = []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"}

// WriteSVG draws curves over the same axes, both from zero.
func WriteSVG(w io.Writer, axes Axes, curves ...Curve) error {
	d := drawing{w: w, xMax: 1e-12, yMax: axes.Budget}
	for _, c := range curves {
		if err := c.check(); err != nil {
			return err
		}
		for i := range c.X {
			d.xMax, d.yMax = max(d.xMax, c.X[i]), max(d.yMax, c.Y[i])
		}
	}
	d.yMax = max(d.yMax*1.05, 1e-12)
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n",
		width, height)
	d.printf(`<rect width="100%%" height="100%%" fill="white"/>` + "\n")
	d.axes(axes)
	for i, c := range curves {
		colour := colours[i%len(colours)]
		d.printf(`<path fill="none" stroke="%s" stroke-width="1.5" d="`, colour)
		d.line(c)
		d.printf("\"/>\n"+`<text x="%d" y="%d" fill="%s">%s</text>`+"\n", width-right+6, top+30+20*i, colour,
			html.EscapeString(c.Name))
	}
	d.printf("</svg>\n")
	return d.err
}

// check refuses a curve that would spoil the axes of all.
func (c Curve) check() error {
	if len(c.X) != len(c.Y) {
		return fmt.Errorf("plot: curve %q has %d x and %d y", c.Name, len(c.X), len(c.Y))
	}
	for i := range c.X {
		for _, v := range []float64{c.X[i], c.Y[i]} {
			if !(v >= 0 && v <= math.MaxFloat64) {
				return fmt.Errorf("plot: point %d of curve %q is (%g, %g), want finite numbers from 0", i, c.Name, c.X[i], c.Y[i])
			}
		}
	}
	return nil
}

// drawing is a picture being written. The first error stays.
type drawing struct {
	w          io.Writer
	xMax, yMax float64 // at the ends of the axes
	err        error
}

func (d *drawing) printf(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format, args...)
	}
}

func (d *drawing) px(x float64) float64 { return left + x/d.xMax*(width-left-right) }
func (d *drawing) py(y float64) float64 { return height - bottom - y/d.yMax*(height-bottom-top) }

// axes draws numbers and lines at each fifth, the labels and the budget.
func (d *drawing) axes(a Axes) {
	for i := range 6 {
		x, y := d.xMax*float64(i)/5, d.yMax*float64(i)/5
		d.printf(`<text x="%.1f" y="%d" text-anchor="middle">%.3g</text>`+"\n", d.px(x), height-bottom+18, x)
		d.printf(`<text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n", left-8, d.py(y)+4, y)
		d.printf(`<path d="M%d %.1fH%d" stroke="#ddd"/>`+"\n", left, d.py(y), width-right)
	}
	d.printf(`<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, height-10,
		html.EscapeString(a.X))
	d.printf(`<text x="20" y="%d" text-anchor="middle" transform="rotate(-90 20 %d)">%s</text>`+"\n", height/2, height/2,
		html.EscapeString(a.Y))
	if a.Budget > 0 {
		d.printf(`<path d="M%d %.1fH%d" stroke="black" stroke-dasharray="6 4"/><text x="%d" y="%.1f">budget</text>`+"\n",
			left, d.py(a.Budget), width-right, width-right+6, d.py(a.Budget)+4)
	}
}

// line draws all points of one column of pixels as a line from the lowest to the highest.
func (d *drawing) line(c Curve) {
	command := 'M'
	for k := 0; k < len(c.X); command = 'L' {
		x, low, high := d.px(c.X[k]), c.Y[k], c.Y[k]
		for ; k < len(c.X) && d.px(c.X[k]) < x+1; k++ {
			low, high = min(low, c.Y[k]), max(high, c.Y[k])
		}
		d.printf("%c%.0f %.1f", command, x, d.py(low))
		if high > low {
			d.printf("V%.1f", d.py(high))
		}
	}
}
