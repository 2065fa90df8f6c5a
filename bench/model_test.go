package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// TestFolderBytes holds the folders to the same bytes on every machine: a figure measured on one is compared with
// figures measured on others.
func TestFolderBytes(t *testing.T) {
	for _, c := range []struct {
		folder Folder
		want   string
	}{
		{Folder{Family: "sd15", Small: true, DType: dtype.F16, Seed: 1}, "012344e1efcd3327"},
		{Folder{Family: "sd15", Small: true, DType: dtype.F16, Seed: 2}, "271931cb20357b88"},
		{Folder{Family: "sd15", Small: true, DType: dtype.F32, Seed: 1}, "8bb1365d3bf0c64e"},
		{Folder{Family: "sd21", Small: true, DType: dtype.F16, Seed: 1}, "0382cc9004571da9"},
		{Folder{Family: "sdxl", Small: true, DType: dtype.F16, Seed: 1}, "b7bcb076f280c886"},
	}[:bounded.Some(5, 2)] {
		dir := filepath.Join(t.TempDir(), c.folder.Family)
		if err := c.folder.Write(dir); err != nil {
			t.Fatal(err)
		}
		if got := digest(t, dir); got != c.want {
			t.Errorf("%+v: the folder's digest is %s, want %s", c.folder, got, c.want)
		}
	}
}

// digest is over the names and bytes of a folder's files.
func digest(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		h.Write([]byte(filepath.ToSlash(name)))
		h.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// TestSmallFolders makes a picture with each.
func TestSmallFolders(t *testing.T) {
	for _, family := range Families {
		t.Run(family, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), family)
			if err := (Folder{Family: family, Small: true, DType: dtype.F32, Seed: 1}).Write(dir); err != nil {
				t.Fatal(err)
			}
			m, err := loader.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			p, err := pipeline.NewTextToImage(m, graphs.WithFiniteChecks())
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if _, err := p.Generate(t.Context(), pipeline.Request{Prompt: "x", NumInferenceSteps: 2, Seed: pipeline.Seed(1)}); err != nil {
				t.Error(err)
			}
		})
	}
}
