package pipeline_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
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
			var p *pipeline.TextToImage
			if err == nil {
				p, err = pipeline.NewTextToImage(m, graphs.WithThreads(1))
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
	p, err := pipeline.NewTextToImage(m)
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

// A weight file that is written to while a picture is made is noticed at the next read of it, whichever that is; one
// that is replaced or removed is read to its end.
func TestWeightsChangedAtEveryRead(t *testing.T) {
	good := os.DirFS(filepath.Join(golden.Dir(), "sd1"))
	want := run(t, openGolden(t, "sd1"), small())
	dir := t.TempDir()
	if err := os.CopyFS(dir, good); err != nil {
		t.Fatal(err)
	}
	reads, at, changed := 0, 0, ""
	var change func(file string, raw []byte, st fs.FileInfo) error
	fsys := hookFS{os.DirFS(dir), func(f io.ReaderAt, p []byte, offset int64) (int, error) {
		if reads++; reads == at {
			changed = f.(*os.File).Name()
			raw, err := os.ReadFile(changed)
			if err != nil {
				return 0, err
			}
			st, err := os.Stat(changed)
			if err != nil {
				return 0, err
			}
			if err := change(changed, raw, st); err != nil {
				return 0, err
			}
		}
		return f.ReadAt(p, offset)
	}}
	open := func() (*pipeline.TextToImage, *loader.Model) {
		m, err := loader.OpenFS(fsys)
		if err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.NewTextToImage(m, graphs.WithThreads(1))
		if err != nil {
			t.Fatal(err)
		}
		return p, m
	}
	p, m := open()
	first := reads + 1
	run(t, p, small())
	last := reads
	p.Close()
	m.Close()
	cases := 0
	for i, c := range []struct {
		name    string
		noticed bool
		change  func(file string, raw []byte, st fs.FileInfo) error
	}{
		{"cut", true, func(file string, raw []byte, _ fs.FileInfo) error { return os.Truncate(file, int64(len(raw)/2)) }},
		{"appended to", true, func(file string, raw []byte, _ fs.FileInfo) error { return os.WriteFile(file, append(raw, 0), 0o666) }},
		{"written over", true, func(file string, raw []byte, _ fs.FileInfo) error {
			clear(raw[len(raw)/2:])
			return os.WriteFile(file, raw, 0o666)
		}},
		{"written over, size and time as before", true, func(file string, raw []byte, st fs.FileInfo) error {
			clear(raw[len(raw)/2:])
			return errors.Join(os.WriteFile(file, raw, 0o666), os.Chtimes(file, st.ModTime(), st.ModTime()))
		}},
		{"replaced", false, func(file string, raw []byte, _ fs.FileInfo) error {
			clear(raw)
			return errors.Join(os.WriteFile(file+".new", raw, 0o666), os.Rename(file+".new", file))
		}},
		{"removed", false, func(file string, _ []byte, _ fs.FileInfo) error { return os.Remove(file) }},
	} {
		if runtime.GOOS != "linux" && runtime.GOOS != "darwin" && c.name != "cut" && c.name != "appended to" {
			continue // files that are open cannot be replaced, and tell nothing but size and time
		}
		change = c.change
		stride := testkit.Long(3) * some(21)
		for r := first + i%stride; r <= last; r += stride {
			cases++
			at = 0
			p, m := open()
			at, reads = r-first+1, 0
			_, err := p.Generate(t.Context(), small())
			at = 0
			name, _ := filepath.Rel(dir, changed)
			name = filepath.ToSlash(name)
			var e *loader.Error
			if c.noticed && (!errors.Is(err, loader.ErrChanged) || !errors.As(err, &e) || e.File != name || e.Tensor == "") {
				t.Fatalf("%s at read %d: %v", c.name, r, err)
			}
			if !c.noticed && err != nil {
				t.Fatalf("%s at read %d: %v", c.name, r, err)
			}
			if !c.noticed && !run(t, p, small()).equal(want) {
				t.Fatalf("%s at read %d: another picture", c.name, r)
			}
			p.Close()
			m.Close()
			raw, err := fs.ReadFile(good, name)
			if err == nil {
				err = errors.Join(os.RemoveAll(changed), os.WriteFile(changed, raw, 0o666))
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // the clock of a file system ticks every few
		}
	}
	t.Logf("%d reads, %d changes", last-first+1, cases)
}

// A disk that does not answer holds up neither a call whose context ends nor Close; the call after it is right.
func TestStalledDisk(t *testing.T) {
	want := run(t, openGolden(t, "sd1"), small())
	for _, closes := range []bool{false, true} {
		goroutines := runtime.NumGoroutine()
		stall, release := make(chan bool), make(chan bool)
		var reads, at atomic.Int64
		m, err := loader.OpenFS(hookFS{goldenFS(t, "sd1"), func(f io.ReaderAt, p []byte, offset int64) (int, error) {
			if reads.Add(1) == at.Load() {
				close(stall)
				select {
				case <-release:
				case <-time.After(bounded.Hang):
					t.Error("the call waits for the disk")
				}
			}
			return f.ReadAt(p, offset)
		}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.NewTextToImage(m, graphs.WithThreads(1))
		if err != nil {
			t.Fatal(err)
		}
		at.Store(reads.Load() + 50)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { _, err := p.Generate(ctx, small()); ended <- err }()
		<-stall
		wanted := context.Canceled
		if closes {
			wanted = graphs.ErrClosed
			go p.Close()
		} else {
			cancel()
		}
		if err := <-ended; !errors.Is(err, wanted) {
			t.Errorf("closes=%t: %v", closes, err)
		}
		cancel() // the disk still does not answer
		close(release)
		if !closes && !run(t, p, small()).equal(want) {
			t.Error("the next run gives another picture")
		}
		p.Close()
		m.Close()
		testkit.NoMoreGoroutines(t, goroutines)
	}
}
