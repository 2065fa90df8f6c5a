package webp

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/image/webp"
)

// pictures are ways to fill a picture, each of which has the encoder do something of its own.
var pictures = []struct {
	name string
	at   func(rng *rand.Rand, x, y int) color.NRGBA
}{
	{"black: codes of one symbol", func(*rand.Rand, int, int) color.NRGBA { return color.NRGBA{A: 255} }},
	{"one colour", func(*rand.Rand, int, int) color.NRGBA { return color.NRGBA{200, 30, 40, 255} }},
	{"noise: no runs, long codes", func(rng *rand.Rand, _, _ int) color.NRGBA {
		return color.NRGBA{byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256)), 255}
	}},
	{"gradients", func(_ *rand.Rand, x, y int) color.NRGBA { return color.NRGBA{byte(x), byte(y), byte(x + y), 255} }},
	{"counts that double, whose words are bounded", func(rng *rand.Rand, _, _ int) color.NRGBA {
		v := byte(0)
		for rng.IntN(2) == 0 {
			v++
		}
		return color.NRGBA{v, v * 3, v * 7, 255}
	}},
	{"stripes: runs of the row above", func(_ *rand.Rand, x, _ int) color.NRGBA {
		return color.NRGBA{byte(x * x),
			byte(x * 7), byte(x), 255}
	}},
	{"transparent", func(rng *rand.Rand, x, y int) color.NRGBA {
		return color.NRGBA{byte(x), byte(y), 9, byte(rng.IntN(256))}
	}},
}

// What is written reads back, by a decoder that is not ours, with the same pixels.
func TestReadsBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range pictures {
		for _, side := range [][2]int{{1, 1}, {1, 7}, {7, 1}, {2, 2}, {3, 300}, {33, 65}, {128, 96}, {500, 3}} {
			img := image.NewNRGBA(image.Rect(0, 0, side[0], side[1]))
			for y := range side[1] {
				for x := range side[0] {
					img.SetNRGBA(x, y, p.at(rng, x, y))
				}
			}
			var b bytes.Buffer
			if err := Encode(&b, img); err != nil {
				t.Fatal(err)
			}
			back, err := webp.Decode(&b)
			if err != nil {
				t.Fatalf("%s, %v: %v", p.name, side, err)
			}
			if got, ok := back.(*image.NRGBA); !ok || !bytes.Equal(got.Pix, img.Pix) || got.Rect != img.Rect {
				t.Errorf("%s, %v: other pixels are read", p.name, side)
			}
		}
	}
}

// A part of a picture is written, wherever it lies, and flat pictures are small.
func TestPartsAndSize(t *testing.T) {
	img := image.NewNRGBA(image.Rect(-5, -5, 600, 600))
	for i := range img.Pix {
		img.Pix[i] = byte(255 * (i % 4 / 3))
	}
	img.SetNRGBA(0, 0, color.NRGBA{1, 2, 3, 255})
	var b bytes.Buffer
	if err := Encode(&b, img.SubImage(image.Rect(0, 0, 512, 512))); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 1000 {
		t.Errorf("a flat picture takes %d bytes", b.Len())
	}
	back, err := webp.Decode(&b)
	if err != nil || fmt.Sprint(back.At(0, 0), back.At(511, 511), back.Bounds().Dx()) != "{1 2 3 255} {0 0 0 255} 512" {
		t.Errorf("%v %v, %v", back.At(0, 0), back.At(511, 511), err)
	}
}

type full struct{ left int }

func (w *full) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("no room")
	}
	return len(p), nil
}

func TestRefused(t *testing.T) {
	for _, r := range []image.Rectangle{{}, image.Rect(0, 0, maxSide+1, 1), image.Rect(0, 0, 1, maxSide+1)} {
		if err := Encode(&bytes.Buffer{}, image.NewNRGBA(r)); err == nil || !strings.Contains(err.Error(), "16384") {
			t.Errorf("%v: %v", r, err)
		}
	}
	for _, room := range []int{0, 20} {
		if err := Encode(&full{room}, image.NewNRGBA(image.Rect(0, 0, 8, 8))); err == nil {
			t.Errorf("writing fails after %d bytes, and nothing is said", room)
		}
	}
}

// Whatever a picture holds, it reads back.
func FuzzWebP(f *testing.F) {
	f.Add([]byte("euryale"), uint8(3))
	f.Fuzz(func(t *testing.T, pix []byte, width uint8) {
		w := max(int(width), 1)
		h := len(pix) / 4 / w
		if h == 0 {
			return
		}
		img := &image.NRGBA{Pix: pix[:4*w*h], Stride: 4 * w, Rect: image.Rect(0, 0, w, h)}
		var b bytes.Buffer
		if err := Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		back, err := webp.Decode(&b)
		if err != nil {
			t.Fatal(err)
		}
		if got := back.(*image.NRGBA); !bytes.Equal(got.Pix, img.Pix) {
			t.Fatal("other pixels are read")
		}
	})
}
