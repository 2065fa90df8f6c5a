// Package scenes reads the pictures of the embedded model: "a {figure} {shape} on a {ground} background". Tests use
// it to tell whether the model draws what it is asked for.
package scenes

import (
	_ "embed"
	"image"
	"image/color"
	"strings"
)

// Scene is a figure on a ground.
type Scene struct{ Figure, Shape, Ground string }

// Prompt is what the model is asked for.
func (s Scene) Prompt() string {
	return "a " + s.Figure + " " + s.Shape + " on a " + s.Ground + " background"
}

// Colours are those the model knows, in 8 bits a channel.
var Colours = []struct {
	Name    string
	R, G, B float64
}{
	{"black", 0, 0, 0}, {"white", 255, 255, 255}, {"red", 255, 0, 0}, {"green", 0, 160, 0},
	{"blue", 0, 0, 255}, {"yellow", 255, 255, 0}, {"cyan", 0, 255, 255}, {"magenta", 255, 0, 255},
}

// Shapes are those the model knows.
var Shapes = []string{"circle", "square", "triangle", "ring", "cross", "bar"}

//go:embed held.txt
var held string

// Held are the scenes that the model never saw in training; loader/tiny/scenes.py takes the same away.
func Held() []Scene {
	var all []Scene
	for line := range strings.Lines(held) {
		f := strings.Fields(line)
		all = append(all, Scene{f[0], f[1], f[2]})
	}
	return all
}

// Read says what a picture shows. Each pixel takes the nearest colour; the ground is what most of the border has, the
// figure what most of the rest has. The shape comes from the figure's box: how much of it, of its corners and of
// its middle is filled, and whether the centre of mass lies low.
func Read(img image.Image) Scene {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	counts, border := make([]int, len(Colours)), make([]int, len(Colours))
	for y := range h {
		for x := range w {
			c := nearest(img.At(b.Min.X+x, b.Min.Y+y))
			counts[c]++
			if x < 2 || y < 2 || x >= w-2 || y >= h-2 {
				border[c]++
			}
		}
	}
	ground := most(border)
	counts[ground] = 0
	figure := most(counts)
	return Scene{Colours[figure].Name, shape(img, figure, ground), Colours[ground].Name}
}

// shape looks at the pixels past the middle between the two colours.
func shape(img image.Image, figure, ground int) string {
	f, g := Colours[figure], Colours[ground]
	axis := [3]float64{f.R - g.R, f.G - g.G, f.B - g.B}
	length := axis[0]*axis[0] + axis[1]*axis[1] + axis[2]*axis[2]
	b := img.Bounds()
	inside := func(x, y int) bool {
		r, gr, bl := rgb(img.At(x, y))
		return (r-g.R)*axis[0]+(gr-g.G)*axis[1]+(bl-g.B)*axis[2] > length/2
	}
	box := image.Rectangle{Min: b.Max, Max: b.Min}
	n, sumY := 0, 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if inside(x, y) {
				n, sumY = n+1, sumY+y
				box.Min.X, box.Max.X = min(box.Min.X, x), max(box.Max.X, x+1)
				box.Min.Y, box.Max.Y = min(box.Min.Y, y), max(box.Max.Y, y+1)
			}
		}
	}
	if n < 16 {
		return "none"
	}
	w, h := float64(box.Dx()), float64(box.Dy())
	fill := float64(n) / (w * h)
	low := (float64(sumY)/float64(n) - float64(box.Min.Y+box.Max.Y-1)/2) / h
	switch {
	case w > 1.8*h:
		return "bar"
	case !inside((box.Min.X+box.Max.X-1)/2, (box.Min.Y+box.Max.Y-1)/2):
		return "ring"
	case low > 0.08:
		return "triangle"
	case fill < 0.67:
		return "cross"
	case corners(box, inside) > 0.5:
		return "square"
	}
	return "circle"
}

// corners is the share that is filled of the four corners of a box, a sixth of its sides each. A circle leaves them
// empty.
func corners(box image.Rectangle, inside func(x, y int) bool) float64 {
	n, all := 0, 0
	cw, ch := max(1, box.Dx()/6), max(1, box.Dy()/6)
	for y := range ch {
		for x := range cw {
			for _, at := range []image.Point{{box.Min.X + x, box.Min.Y + y}, {box.Max.X - 1 - x, box.Min.Y + y}, {box.Min.X + x, box.Max.Y - 1 - y}, {box.Max.X - 1 - x, box.Max.Y - 1 - y}} {
				all++
				if inside(at.X, at.Y) {
					n++
				}
			}
		}
	}
	return float64(n) / float64(all)
}

func nearest(c color.Color) int {
	r, g, b := rgb(c)
	best, least := 0, 1e9
	for i, p := range Colours {
		if d := (r-p.R)*(r-p.R) + (g-p.G)*(g-p.G) + (b-p.B)*(b-p.B); d < least {
			best, least = i, d
		}
	}
	return best
}

func rgb(c color.Color) (r, g, b float64) {
	n := color.NRGBAModel.Convert(c).(color.NRGBA)
	return float64(n.R), float64(n.G), float64(n.B)
}

func most(counts []int) int {
	best := 0
	for i, n := range counts {
		if n > counts[best] {
			best = i
		}
	}
	return best
}
