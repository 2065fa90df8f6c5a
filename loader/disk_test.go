package loader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/golden"
)

// A fault is what a read does in place of filling p. Each gives less than was asked for.
var faults = []struct {
	name string
	read func(f io.ReaderAt, p []byte, at int64) (int, error)
}{
	{"an error", func(io.ReaderAt, []byte, int64) (int, error) { return 0, syscall.EIO }},
	{"an error after half", func(f io.ReaderAt, p []byte, at int64) (int, error) {
		n, _ := f.ReadAt(p[:len(p)/2], at)
		return n, syscall.EIO
	}},
	{"a short read", func(f io.ReaderAt, p []byte, at int64) (int, error) { return f.ReadAt(p[:len(p)/2], at) }},
	{"an early end", func(f io.ReaderAt, p []byte, at int64) (int, error) {
		n, _ := f.ReadAt(p[:len(p)/2], at)
		return n, io.EOF
	}},
	{"nothing", func(io.ReaderAt, []byte, int64) (int, error) { return 0, nil }},
	{"an interrupt", func(io.ReaderAt, []byte, int64) (int, error) { return 0, syscall.EINTR }},
	{"an interrupt after half", func(f io.ReaderAt, p []byte, at int64) (int, error) {
		n, _ := f.ReadAt(p[:len(p)/2], at)
		return n, syscall.EINTR
	}},
}

// badDisk is a file system in which the read of number from fails, and those after it if forever is set.
type badDisk struct {
	fs.FS
	from    int // counted from 1; 0: none
	forever bool
	fault   func(io.ReaderAt, []byte, int64) (int, error)

	mu          sync.Mutex
	reads, open int
	failed      string // the file that was read when it failed first
}

func (d *badDisk) Open(name string) (fs.File, error) {
	f, err := d.FS.Open(name)
	if err != nil {
		return nil, err
	}
	d.open++
	return &badFile{f, d, name}, nil
}

type badFile struct {
	fs.File
	disk *badDisk
	name string
}

func (f *badFile) Close() error {
	f.disk.open--
	return f.File.Close()
}

func (f *badFile) ReadAt(p []byte, at int64) (int, error) {
	d, in := f.disk, f.File.(io.ReaderAt)
	d.mu.Lock()
	d.reads++
	good := d.from == 0 || d.reads < d.from || d.reads > d.from && !d.forever
	if !good && d.failed == "" {
		d.failed = f.name
	}
	d.mu.Unlock()
	if good {
		return in.ReadAt(p, at)
	}
	return d.fault(in, p, at)
}

// readAll reads what a pipeline reads of some components. tensor is the one being read when an error ended it.
func readAll(fsys fs.FS) (content []byte, tensor string, err error) {
	m, err := OpenFS(fsys)
	if err != nil {
		return nil, "", err
	}
	defer m.Close()
	c, err := m.Component("tokenizer")
	if err != nil {
		return nil, "", err
	}
	content, err = c.TokenizerFile("merges.txt")
	for _, name := range []string{"text_encoder", "vae"} { // sharded; one file
		if err != nil {
			return nil, "", err
		}
		if c, err = m.Component(name); err != nil {
			return nil, "", err
		}
		_, config, err := c.Config()
		if err != nil {
			return nil, "", err
		}
		content = append(content, config...)
		w, err := c.Weights()
		if err != nil {
			return nil, "", err
		}
		for _, tensor := range w.Names() {
			info, _ := w.Info(tensor)
			raw := make([]byte, info.Bytes)
			if err := w.ReadTensor(context.Background(), tensor, raw); err != nil {
				return nil, tensor, err
			}
			content = append(content, raw...)
		}
	}
	return content, "", nil
}

// Whatever a disk does at any one read, or from one read on, a model is read as it is or not at all: the error
// names the file and, once tensors are read, the tensor. No file stays open.
func TestFaultAtEveryRead(t *testing.T) {
	sd2 := os.DirFS(filepath.Join(golden.Dir(), "sd2"))
	clean := &badDisk{FS: sd2}
	want, _, err := readAll(clean)
	if err != nil {
		t.Fatal(err)
	}
	stride := bounded.Some(1, 7)
	points, errs := 0, 0
	again := map[string]bool{"a short read": true, "an interrupt": true, "an interrupt after half": true}
	for i, fault := range faults {
		for _, forever := range []bool{false, true} {
			for from := 1 + i%stride; from <= clean.reads; from += stride {
				d := &badDisk{FS: sd2, from: from, forever: forever, fault: fault.read}
				got, tensor, err := readAll(d)
				where := fmt.Sprintf("%s at read %d of %s, forever=%t", fault.name, from, d.failed, forever)
				points++
				var e *Error
				switch {
				case d.open != 0:
					t.Fatalf("%s: %d files stay open", where, d.open)
				case err == nil && !bytes.Equal(got, want):
					t.Fatalf("%s: other numbers are read", where)
				case err == nil && !again[fault.name]:
					t.Fatalf("%s: no error", where)
				case err != nil && !forever && fault.name != "a short read" && again[fault.name]:
					t.Fatalf("%s: it is not read again: %v", where, err)
				case err == nil:
				case !errors.As(err, &e) || e.File != d.failed || e.Tensor != tensor:
					t.Fatalf("%s, tensor %q: %v", where, tensor, err)
				default:
					errs++
				}
			}
		}
	}
	t.Logf("%d reads, %d faults, %d errors", clean.reads, points, errs)
}

// twoTensors is a model in a real folder, its weights open.
func twoTensors(t *testing.T) (file string, w *Weights) {
	t.Helper()
	dir := t.TempDir()
	file = writeModel(t, dir)
	two := container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16)
	if err := os.WriteFile(file, two, 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	c, err := m.Component("unet")
	if err != nil {
		t.Fatal(err)
	}
	if w, err = c.Weights(); err != nil {
		t.Fatal(err)
	}
	return file, w
}

// A weight file that is written to between Open and the reading of a tensor is noticed; one that is replaced or
// removed is read to its end.
func TestChangedWeights(t *testing.T) {
	for _, c := range []struct {
		name    string
		noticed bool
		change  func(file string, raw []byte) error
	}{
		{"cut", true, func(file string, raw []byte) error { return os.Truncate(file, int64(len(raw)-4)) }},
		{"cut to nothing", true, func(file string, raw []byte) error { return os.Truncate(file, 0) }},
		{"appended to", true, func(file string, raw []byte) error { return os.WriteFile(file, append(raw, 0), 0o666) }},
		{"written over", true, func(file string, raw []byte) error { raw[len(raw)-1] = 1; return os.WriteFile(file, raw, 0o666) }},
		{"written over, size and times as before", true, func(file string, raw []byte) error {
			st, err := os.Stat(file)
			if err != nil || runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
				return errors.Join(err, errors.ErrUnsupported)
			}
			raw[len(raw)-1] = 1
			return errors.Join(os.WriteFile(file, raw, 0o666), os.Chtimes(file, st.ModTime(), st.ModTime()))
		}},
		{"written over with the same", true, func(file string, raw []byte) error { return os.WriteFile(file, raw, 0o666) }},
		{"replaced", false, func(file string, raw []byte) error {
			return errors.Join(os.WriteFile(file+".new", make([]byte, len(raw)), 0o666), os.Rename(file+".new", file))
		}},
		{"given another name too", false, func(file string, _ []byte) error { return os.Link(file, file+".link") }},
		{"removed", false, func(file string, _ []byte) error { return os.Remove(file) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, w := twoTensors(t)
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 8)
			if err := w.ReadTensor(t.Context(), "a", buf); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // the clock of a file system ticks every few
			if err := c.change(file, slices.Clone(raw)); err != nil {
				t.Skip("cannot be done here:", err)
			}
			err = w.ReadTensor(t.Context(), "b", buf)
			var e *Error
			switch {
			case !c.noticed && (err != nil || !bytes.Equal(buf, make([]byte, 8))):
				t.Errorf("the open file is read as %v, %v", buf, err)
			case c.noticed && (!errors.As(err, &e) || !errors.Is(err, ErrChanged) || e.Tensor != "b" || !strings.HasSuffix(e.File, ".safetensors")):
				t.Errorf("error %v", err)
			}
		})
	}
}

// growing is a file that is appended to while it is read.
type growing struct{ fs.FS }

type growingFile struct {
	*os.File
}

func (g growing) Open(name string) (fs.File, error) {
	f, err := g.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".txt") {
		return f, err
	}
	return growingFile{f.(*os.File)}, nil
}

func (f growingFile) ReadAt(p []byte, at int64) (int, error) {
	out, err := os.OpenFile(f.Name(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	_, err = out.WriteString("more")
	return len(p), errors.Join(err, out.Close())
}

func TestChangedConfigs(t *testing.T) {
	dir := t.TempDir()
	writeModel(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "unet", "merges.txt"), []byte("a b\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := OpenFS(growing{os.DirFS(dir)})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := m.Component("unet")
	if _, err := c.TokenizerFile("merges.txt"); !errors.As(err, new(*Error)) || !errors.Is(err, ErrChanged) {
		t.Errorf("error %v", err)
	}
}

// A disk that does not answer does not hold up a caller whose context ends; the read has memory of its own. When the
// disk answers at last nothing is left of it, and the next read is right.
func TestStalledReads(t *testing.T) {
	release := make(chan bool)
	var stalls atomic.Int32
	fsys := &badDisk{FS: os.DirFS(filepath.Join(golden.Dir(), "sd1")), forever: true}
	fsys.fault = func(f io.ReaderAt, p []byte, at int64) (int, error) {
		if stalls.Add(1) == 1 {
			<-release
		}
		return f.ReadAt(p, at)
	}
	m, err := OpenFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, _ := m.Component("unet")
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	fsys.from = fsys.reads + 1
	const name = "conv_in.weight"
	info, _ := w.Info(name)
	got := make([]byte, info.Bytes)
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(bounded.Hang, func() { t.Error("the read waits for the disk"); close(release) }).Stop()
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := w.ReadTensor(ctx, name, got); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	close(release)
	for end := time.Now().Add(bounded.Hang); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the read is still there")
		}
	}
	if !bytes.Equal(got, make([]byte, len(got))) {
		t.Error("the read that was given up wrote into the caller's memory")
	}
	if err := w.ReadTensor(t.Context(), name, got); err != nil || bytes.Equal(got, make([]byte, len(got))) {
		t.Errorf("the next read: %v", err)
	}
}

// A tensor that is read again must be what it was, even where the system tells nothing of a change.
func TestReadAgain(t *testing.T) {
	fsys := folder(map[string]string{"unet/model.safetensors": string(container(one, 8))})
	m, err := OpenFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := m.Component("unet")
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	for range 2 {
		if err := w.ReadTensor(t.Context(), "w", buf); err != nil {
			t.Fatal(err)
		}
	}
	raw := fsys["unet/model.safetensors"].Data
	raw[len(raw)-1] ^= 1
	var e *Error
	if err := w.ReadTensor(t.Context(), "w", buf); !errors.Is(err, ErrChanged) || !errors.As(err, &e) || e.Tensor != "w" {
		t.Errorf("error %v", err)
	}
}
