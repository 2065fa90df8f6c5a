package loader

import (
	"embed"
	"io/fs"

	"github.com/euryale-ml/euryale/internal/stack"
)

//go:embed tiny/model
var tiny embed.FS

// Tiny opens the model embedded in the module: a latent diffusion model of 64x64 pictures, "a {colour} {shape}
// on a {colour} background", trained by tiny/train.py.
func Tiny() (*Model, error) {
	sub, err := fs.Sub(tiny, "tiny/model")
	if err != nil {
		return nil, stack.With(err)
	}
	return OpenFS(sub)
}
