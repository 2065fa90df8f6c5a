package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
	"strings"
)

// parameters is the text that goes with a picture, in the form other programs for Stable Diffusion write and
// read.
func parameters(s *summary) string {
	var b strings.Builder
	b.WriteString(s.Prompt)
	if s.Negative != "" {
		b.WriteString("\nNegative prompt: " + s.Negative)
	}
	fmt.Fprintf(&b, "\nSteps: %d, Sampler: %s, CFG scale: %g, Seed: %d, Size: %dx%d, Model: %s",
		s.Steps, s.Sampler, s.Guidance, s.Seed, s.Width, s.Height, s.Model)
	return b.String()
}

// encodePNG writes a picture with a text chunk "parameters". PNG's international text chunk is used, since
// prompts are UTF-8 (https://www.w3.org/TR/png-3/#11iTXt). It takes no NUL, and a file name may be no UTF-8: the replacement
// character stands for both.
func encodePNG(w io.Writer, img image.Image, text string) error {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return err
	}
	const header = 8 + 25 // signature and the IHDR chunk, which must come first
	raw := b.Bytes()
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\ufffd"), "\ufffd")
	data := append([]byte("parameters\x00\x00\x00\x00\x00"), text...)
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	chunk = append(append(chunk, "iTXt"...), data...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
	for _, part := range [][]byte{raw[:header], chunk, raw[header:]} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
