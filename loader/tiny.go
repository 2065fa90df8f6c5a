package loader

import (
	"embed"
	"io/fs"
)

//go:embed tiny/model
var tiny embed.FS

// Tiny opens the model embedded in the module: a latent diffusion model of 64x64 pictures, "a {colour} {shape}
// on a {colour} background", trained by tiny/train.py.
func Tiny() (*Model, error) {
	sub, err := fs.Sub(tiny, "tiny/model")
	if err != nil {
		return nil, err
	}
	return OpenFS(sub)
}
