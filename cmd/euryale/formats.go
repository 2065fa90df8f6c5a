package main

import (
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"path/filepath"
	"strings"

	"github.com/euryale-ml/euryale/internal/webp"
)

// format is a way to write a picture. Only PNG carries the parameters that it was made with.
type format struct {
	extensions []string
	encode     func(w io.Writer, img image.Image, text string) error
}

func formats() []format {
	return []format{
		{[]string{".png"}, encodePNG},
		{[]string{".jpg", ".jpeg"}, func(w io.Writer, img image.Image, _ string) error {
			return jpeg.Encode(w, img, &jpeg.Options{Quality: 95})
		}},
		{[]string{".webp"}, func(w io.Writer, img image.Image, _ string) error { return webp.Encode(w, img) }},
	}
}

// formatOf is the format that a file's extension names; without one it is PNG.
func formatOf(file string) (format, error) {
	var all []string
	ext := strings.ToLower(filepath.Ext(file))
	for _, f := range formats() {
		for _, e := range f.extensions {
			if e == ext || ext == "" || ext == "." {
				return f, nil
			}
			all = append(all, e)
		}
	}
	return format{}, fmt.Errorf("-o %s: pictures are written as %s, not as %s", file, strings.Join(all, ", "), ext)
}
