package scenes

import (
	"image"
	"image/color"
	"math"
	"testing"
)

// draw makes a scene by its definition, without any model.
func draw(s Scene, side int, r, cx, cy float64) image.Image {
	find := func(name string) color.NRGBA {
		for _, c := range Colours {
			if c.Name == name {
				return color.NRGBA{uint8(c.R), uint8(c.G), uint8(c.B), 255}
			}
		}
		panic(name)
	}
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	for py := range side {
		for px := range side {
			x, y := float64(px)+0.5-cx, float64(py)+0.5-cy
			box := func(w, h float64) bool { return math.Abs(x) < w && math.Abs(y) < h }
			in := false
			switch s.Shape {
			case "circle":
				in = math.Hypot(x, y) < r
			case "square":
				in = box(0.9*r, 0.9*r)
			case "triangle":
				in = math.Sqrt(3)*math.Abs(x)-y < r && y < 0.5*r
			case "ring":
				in = math.Abs(math.Hypot(x, y)-0.75*r) < 0.25*r
			case "cross":
				in = box(r, r/3) || box(r/3, r)
			case "bar":
				in = box(1.15*r, 0.38*r)
			}
			img.SetNRGBA(px, py, find(s.Ground))
			if in {
				img.SetNRGBA(px, py, find(s.Figure))
			}
		}
	}
	return img
}

// TestRead: every scene, at several sizes and places, is read as what it is.
func TestRead(t *testing.T) {
	for _, f := range Colours {
		for _, g := range Colours {
			for _, shape := range Shapes {
				if f.Name == g.Name {
					continue
				}
				s := Scene{f.Name, shape, g.Name}
				for _, r := range []float64{13, 15, 17.3, 20} {
					for _, at := range [][2]float64{{32, 32}, {29.5, 34.2}} {
						if got := Read(draw(s, 64, r, at[0], at[1])); got != s {
							t.Fatalf("%v of size %v at %v is read as %v", s, r, at, got)
						}
					}
				}
			}
		}
	}
}

func TestHeld(t *testing.T) {
	held := Held()
	seen := map[Scene]bool{}
	for _, s := range held {
		seen[s] = true
	}
	if len(held) != 33 || len(seen) != 33 {
		t.Errorf("%d scenes, %d different, want 33", len(held), len(seen))
	}
	if got := held[0].Prompt(); got != "a black bar on a blue background" {
		t.Errorf("the first is %q", got)
	}
}
