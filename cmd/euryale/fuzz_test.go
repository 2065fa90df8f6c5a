package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"strings"
	"testing"
	"unicode/utf8"
)

// A picture with any text is a PNG whose chunks are whole, whose pixels are the picture's, and whose text reads
// back as it was, but for what PNG does not take.
func FuzzPNGText(f *testing.F) {
	f.Add("a red circle\nSteps: 2", uint8(1))
	f.Add("漢字 é 👩‍👩‍👧", uint8(3))
	f.Add("a\x00b\xff\xfe\r\n", uint8(2))
	f.Add("IEND\xaeB`\x82", uint8(9))
	f.Fuzz(func(t *testing.T, text string, side uint8) {
		img := image.NewNRGBA(image.Rect(0, 0, 1+int(side)%16, 2))
		for i := range img.Pix {
			img.Pix[i] = byte(i*int(side)) | byte(i%4/3*255) // opaque
		}
		var b bytes.Buffer
		if err := encodePNG(&b, img, text); err != nil {
			t.Fatal(err)
		}
		back, err := png.Decode(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		for y := range 2 {
			for x := range img.Rect.Dx() {
				if r, g, b, a := back.At(x, y).RGBA(); [4]uint32{r, g, b, a} != rgba(img.NRGBAAt(x, y)) {
					t.Fatalf("pixel %d %d differs", x, y)
				}
			}
		}
		got := readText(t, b.Bytes())
		if !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Fatalf("%q is no text of a PNG", got)
		}
		if utf8.ValidString(text) && !strings.ContainsRune(text, 0) && got != text {
			t.Fatalf("%q was written, %q is read", text, got)
		}
	})
}

func rgba(c interface{ RGBA() (r, g, b, a uint32) }) [4]uint32 {
	r, g, b, a := c.RGBA()
	return [4]uint32{r, g, b, a}
}

// readText returns the text of the one chunk "parameters", checking the checksum of every chunk.
func readText(t *testing.T, raw []byte) string {
	t.Helper()
	var texts []string
	for raw = raw[8:]; len(raw) > 0; {
		if len(raw) < 12 {
			t.Fatalf("%d bytes after the last chunk", len(raw))
		}
		n := int(binary.BigEndian.Uint32(raw))
		if n > len(raw)-12 {
			t.Fatalf("a chunk of %d bytes, %d are left", n, len(raw))
		}
		if binary.BigEndian.Uint32(raw[8+n:]) != crc32.ChecksumIEEE(raw[4:8+n]) {
			t.Fatalf("chunk %s has another checksum", raw[4:8])
		}
		// keyword, NUL, not compressed, method 0, no language, no translated keyword
		if text, ok := bytes.CutPrefix(raw[8:8+n], []byte("parameters\x00\x00\x00\x00\x00")); ok && string(raw[4:8]) == "iTXt" {
			texts = append(texts, string(text))
		}
		raw = raw[12+n:]
	}
	if len(texts) != 1 {
		t.Fatalf("%d texts, want one", len(texts))
	}
	return texts[0]
}
