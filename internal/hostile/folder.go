package hostile

import (
	"errors"
	"os"
	"path/filepath"
)

// Folder makes a spoiled copy of a model folder below parent, and beside it the folder outside, with weights that
// nothing may open.
func (c Case) Folder(parent, good string) (model, outside string, err error) {
	model, outside = filepath.Join(parent, "model"), filepath.Join(parent, "outside")
	err = errors.Join(os.CopyFS(model, os.DirFS(good)), os.Mkdir(outside, 0o777),
		os.WriteFile(filepath.Join(outside, "decoy.safetensors"), Container(OneTensor, 8), 0o666),
		os.WriteFile(filepath.Join(outside, "config.json"), []byte("{}"), 0o666))
	if err != nil {
		return "", "", err
	}
	return model, outside, c.Spoil(model)
}
