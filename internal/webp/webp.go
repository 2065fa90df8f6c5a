// Package webp writes pictures as lossless WebP, which Go's own libraries only read. The format is RFC 9649's: a RIFF
// container with one VP8L chunk. Green is taken from red and blue, each pixel is predicted from its neighbours, and what
// remains is Huffman-coded with runs of pixels that repeat those to the left or above. (The libraries tried in its place
// panic on pictures of one colour, or bring a WebAssembly runtime.)
package webp

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/draw"
	"io"
)

// maxSide is what the 14 bits of a side hold.
const maxSide = 1 << 14

// Encode writes a picture.
func Encode(w io.Writer, img image.Image) error {
	b := img.Bounds()
	if b.Dx() < 1 || b.Dy() < 1 || b.Dx() > maxSide || b.Dy() > maxSide {
		return fmt.Errorf("webp: the picture is of %dx%d pixels, want 1 to %d a side", b.Dx(), b.Dy(), maxSide)
	}
	rgba := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(rgba, rgba.Rect, img, b.Min, draw.Src)

	var bits bitWriter
	bits.write(0x2f, 8) // signature
	bits.write(uint32(b.Dx()-1), 14)
	bits.write(uint32(b.Dy()-1), 14)
	alpha := uint32(1)
	if rgba.Opaque() {
		alpha = 0
	}
	bits.write(alpha, 1)
	bits.write(0, 3) // version
	encodePixels(&bits, pixelsOf(rgba), b.Dx(), b.Dy())
	return writeContainer(w, bits.bytes())
}

func writeContainer(w io.Writer, data []byte) error {
	size := len(data)
	if size%2 == 1 {
		data = append(data, 0) // chunks are of whole words
	}
	head := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(12+len(data)))
	head = binary.LittleEndian.AppendUint32(append(head, "WEBPVP8L"...), uint32(size))
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// pixelsOf are the pixels as alpha, red, green and blue from the highest byte on.
func pixelsOf(img *image.NRGBA) []uint32 {
	px := make([]uint32, len(img.Pix)/4)
	for i := range px {
		p := img.Pix[4*i:]
		px[i] = uint32(p[3])<<24 | uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2])
	}
	return px
}

// The transforms in use, as the format numbers them.
const (
	predictorTransform     = 0
	subtractGreenTransform = 2
)

// encodePixels writes the transforms and what they leave of a picture.
func encodePixels(w *bitWriter, px []uint32, width, height int) {
	w.write(1, 1)
	w.write(subtractGreenTransform, 2)
	for i, p := range px {
		g := p >> 8 & 0xff
		px[i] = p&0xff00ff00 | (p-g<<16)&0xff0000 | (p-g)&0xff
	}
	w.write(1, 1)
	w.write(predictorTransform, 2)
	w.write(blockBits-2, 3)
	rest, modes := predict(px, width, height)
	across := (width + block - 1) / block
	writeImage(w, modes, across, false)
	w.write(0, 1) // no further transform
	writeImage(w, rest, width, true)
}

// Pixels of a block are predicted in the same way.
const (
	blockBits = 5
	block     = 1 << blockBits
)

// The predictors that are tried, as the format numbers them.
const (
	left     = 1
	above    = 2
	average  = 7 // of left and above
	selected = 11
	gradient = 12 // left + above - above left
)

// predict returns what the best predictor of each block leaves, and these predictors as the pixels of a picture.
func predict(px []uint32, width, height int) (rest, modes []uint32) {
	rest = make([]uint32, len(px))
	try := make([]uint32, block*block)
	for y := 0; y < height; y += block {
		for x := 0; x < width; x += block {
			best, least := 0, -1
			for _, mode := range []int{left, above, average, selected, gradient} {
				if cost := predictBlock(try, px, width, height, x, y, mode); least < 0 || cost < least {
					best, least = mode, cost
				}
			}
			predictBlock(try, px, width, height, x, y, best)
			for j := y; j < min(y+block, height); j++ {
				copy(rest[j*width+x:j*width+min(x+block, width)], try[(j-y)*block:])
			}
			modes = append(modes, 0xff000000|uint32(best)<<8)
		}
	}
	return rest, modes
}

// predictBlock writes what a predictor leaves of the block at x, y, a row per block pixels, and returns about what that
// costs.
func predictBlock(dst, px []uint32, width, height, x, y, mode int) (cost int) {
	for j := y; j < min(y+block, height); j++ {
		for i := x; i < min(x+block, width); i++ {
			at := j*width + i
			r := sub(px[at], predicted(px, width, i, j, mode))
			dst[(j-y)*block+i-x] = r
			for shift := 0; shift < 32; shift += 8 {
				n := int(int8(r >> shift))
				cost += max(n, -n)
			}
		}
	}
	return cost
}

// predicted is what a predictor says of the pixel at i, j. The first row and column have their own.
func predicted(px []uint32, width, i, j, mode int) uint32 {
	at := j*width + i
	switch {
	case i == 0 && j == 0:
		return 0xff000000
	case j == 0:
		return px[at-1]
	case i == 0:
		return px[at-width]
	}
	l, t, tl := px[at-1], px[at-width], px[at-width-1]
	switch mode {
	case left:
		return l
	case above:
		return t
	case average:
		return each(l, t, 0, func(l, t, _ int) int { return (l + t) / 2 })
	case gradient:
		return each(l, t, tl, func(l, t, tl int) int { return min(max(l+t-tl, 0), 255) })
	}
	// selected: of left and above the one that is nearer to the gradient.
	toLeft, toAbove := 0, 0
	for shift := 0; shift < 32; shift += 8 {
		a, b, c := int(l>>shift&0xff), int(t>>shift&0xff), int(tl>>shift&0xff)
		toLeft += max(b-c, c-b)
		toAbove += max(a-c, c-a)
	}
	if toLeft < toAbove {
		return l
	}
	return t
}

// each calls f with each channel of three pixels and makes a pixel of the results.
func each(a, b, c uint32, f func(a, b, c int) int) (p uint32) {
	for shift := 0; shift < 32; shift += 8 {
		p |= uint32(f(int(a>>shift&0xff), int(b>>shift&0xff), int(c>>shift&0xff))) << shift
	}
	return p
}

// sub is the difference of two pixels, channel by channel, modulo 256.
func sub(a, b uint32) uint32 {
	return (0x00ff00ff+a&0xff00ff00-b&0xff00ff00)&0xff00ff00 | (0xff00ff00+a&0x00ff00ff-b&0x00ff00ff)&0x00ff00ff
}
