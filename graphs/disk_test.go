package graphs_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/loader"
)

// A disk that fails at one read while a pipeline is made or first used: an error names the file and, once weights
// are read, the tensor. The next run, with the disk in order, gives the right picture.
func TestDiskFaultsInAPipeline(t *testing.T) {
	want := run(t, openGolden(t, "sd1"), small())
	broken := errors.New("broken disk")
	for _, fault := range []error{broken, io.EOF} {
		for at, done := 1, false; !done; at += 29 * some(4) {
			reads := 0
			m, err := loader.OpenFS(hookFS{goldenFS(t, "sd1"), func(f io.ReaderAt, p []byte, offset int64) (int, error) {
				if reads++; reads == at {
					return 0, fault
				}
				return f.ReadAt(p, offset)
			}})
			var p *graphs.TextToImage
			if err == nil {
				p, err = graphs.NewTextToImage(m, graphs.WithThreads(1))
			}
			opened := err == nil
			if opened {
				_, err = p.Generate(t.Context(), small())
			}
			var e *loader.Error
			if done = reads < at; done != (err == nil) {
				t.Fatalf("%v at read %d of %d: %v", fault, at, reads, err)
			}
			if !done && (!errors.As(err, &e) || e.File == "" || opened && e.Tensor == "" || fault == broken && !errors.Is(err, broken)) {
				t.Errorf("%v at read %d: %v", fault, at, err)
			}
			if opened {
				if !run(t, p, small()).equal(want) {
					t.Errorf("after %v at read %d the next run gives another picture", fault, at)
				}
				p.Close()
			}
		}
	}
}

// Weights are read when a picture first needs them. A file cut since is noticed then.
func TestWeightsChangedUnderAPipeline(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(golden.Dir(), "sd1"))); err != nil {
		t.Fatal(err)
	}
	m, err := loader.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := graphs.NewTextToImage(m)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	time.Sleep(20 * time.Millisecond) // the clock of a file system ticks every few
	const file = "vae/diffusion_pytorch_model.safetensors"
	if err := os.Truncate(filepath.Join(dir, file), 100_000); err != nil {
		t.Fatal(err)
	}
	_, err = p.Generate(t.Context(), small())
	var e *loader.Error
	if !errors.Is(err, loader.ErrChanged) || !errors.As(err, &e) || e.File != file || e.Tensor == "" {
		t.Errorf("error %v", err)
	}
}
