package loader

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"github.com/euryale-ml/euryale/internal/dtype"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/hostile"
)

var (
	container     = hostile.Container
	badContainers = hostile.Containers
)

const one = hostile.OneTensor

// refused checks that err is an *Error naming the file, that little memory was taken and little time.
func refused(t *testing.T, file, want string, open func() error) {
	t.Helper()
	var err error
	bounded.Do(t, 256, 2*time.Second, func() { err = open() })
	var e *Error
	if !errors.As(err, &e) || e.File == "" || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one of %s about %q", err, file, want)
	}
}

func TestBadContainers(t *testing.T) {
	for _, c := range badContainers {
		t.Run(c.Name, func(t *testing.T) {
			refused(t, "unet/model.safetensors", c.Want, func() error {
				_, err := readHeader(bytes.NewReader(c.Raw), int64(len(c.Raw)), "unet/model.safetensors", DefaultLimits())
				return err
			})
		})
	}
}

func TestUnusualContainersThatAreAllowed(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"a tensor of no elements", container(`{"w":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}}`, 0)},
		{"a tensor of no elements beside a real one", container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 8)},
		{"a scalar", container(`{"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 4)},
		{"space before", container("   "+one, 8)},
		{"space behind", container(one+"   ", 8)},
		{"an unknown field", container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"note":{"a":[1]}}}`, 8)},
		{"no tensors", container(`{}`, 0)},
		{"names that need quoting", container(`{"a\nb\u001b[31m":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	} {
		if _, err := readHeader(bytes.NewReader(c.raw), int64(len(c.raw)), "f", DefaultLimits()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Any single bit of a header may be wrong: the file is refused, or it holds the same tensors.
func TestBitFlips(t *testing.T) {
	var b strings.Builder
	at := 0
	for i := range 24 {
		fmt.Fprintf(&b, `,"block.%d.weight":{"dtype":"F16","shape":[%d,2],"data_offsets":[%d,%d]}`, i, i+1, at, at+4*(i+1))
		at += 4 * (i + 1)
	}
	header := "{" + b.String()[1:] + "}"
	header += strings.Repeat(" ", 2040-len(header))
	raw := container(header, at)
	want, err := readHeader(bytes.NewReader(raw), int64(len(raw)), "f", DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	flips, taken := 0, 0
	for bit := range 8 * 2048 {
		raw[bit/8] ^= 1 << (bit % 8)
		got, err := readHeader(bytes.NewReader(raw), int64(len(raw)), "f", DefaultLimits())
		raw[bit/8] ^= 1 << (bit % 8)
		flips++
		if err != nil {
			continue
		}
		taken++
		if len(got) != len(want) {
			t.Fatalf("bit %d: %d tensors", bit, len(got))
		}
		for i := range got {
			// A flip inside a name or between F16 and BF16 cannot be told from another file.
			if got[i].begin != want[i].begin || got[i].Bytes != want[i].Bytes {
				t.Fatalf("bit %d: tensor %d lies elsewhere", bit, i)
			}
		}
	}
	if flips != 16384 {
		t.Fatalf("%d flips", flips)
	}
	t.Logf("%d flips, %d files taken", flips, taken)
}

// folder is a model of one component with one file.
func folder(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{"model_index.json": {Data: []byte(`{"_class_name": "P", "unet": ["diffusers", "UNet2DConditionModel"]}`)}}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return fsys
}

func openWeights(fsys fs.FS, opts ...Option) error {
	m, err := OpenFS(fsys, opts...)
	if err != nil {
		return err
	}
	defer m.Close()
	c, err := m.Component("unet")
	if err != nil {
		return err
	}
	_, err = c.Weights()
	return err
}

func TestBadFolders(t *testing.T) {
	const index = "unet/diffusion_pytorch_model.safetensors.index.json"
	shard := string(container(one, 8))
	weightMap := func(s string) map[string]string {
		return map[string]string{index: `{"metadata": {"total_size": 9223372036854775807}, "weight_map": ` + s + `}`, "unet/a.safetensors": shard, "unet/b.safetensors": shard}
	}
	for _, c := range []struct {
		name, want string
		files      map[string]string
	}{
		{"45 the index is not JSON", "model_index.json", map[string]string{"model_index.json": "{"}},
		{"45 the index is an array", "model_index.json", map[string]string{"model_index.json": "[]"}},
		{"45 the index has no class", "_class_name", map[string]string{"model_index.json": "{}"}},
		{"45 a class of another library", "unet", map[string]string{"model_index.json": `{"_class_name": "P", "unet": ["os", "system"]}`}},
		{"45 a component is a path", "not a folder's name", map[string]string{"model_index.json": `{"_class_name": "P", "../x": ["diffusers", "system"]}`}},
		{"45 no such component", "unet", map[string]string{"model_index.json": `{"_class_name": "P"}`}},
		{"64 the index is nested", "nested", map[string]string{"model_index.json": strings.Repeat("[", 100) + strings.Repeat("]", 100)}},
		{"64 the index is large", "at most", map[string]string{"model_index.json": strings.Repeat(" ", 5<<20) + "{}"}},
		{"no weights", "no weights", nil},
		{"a pickle", "save_pretrained", map[string]string{"unet/diffusion_pytorch_model.bin": "\x80\x02"}},
		{"46 a shard elsewhere", "etc/passwd", weightMap(`{"w": "../../etc/passwd"}`)},
		{"47 a shard at an absolute path", "weight_map", weightMap(`{"w": "/etc/passwd.safetensors"}`)},
		{"48 a shard in a folder", "weight_map", weightMap(`{"w": "a/b.safetensors"}`)},
		{"48 a shard on a drive", "weight_map", weightMap(`{"w": "C:\\x.safetensors"}`)},
		{"48 a shard called ..", "weight_map", weightMap(`{"w": ".."}`)},
		{"48 a shard called .", "weight_map", weightMap(`{"w": "."}`)},
		{"48 a shard without a name", "weight_map", weightMap(`{"w": ""}`)},
		{"52 a shard is missing", "unet/c.safetensors: missing", weightMap(`{"w": "c.safetensors"}`)},
		{"53 a tensor is missing", "v: missing", weightMap(`{"w": "a.safetensors", "v": "a.safetensors"}`)},
		{"54 a tensor is in another shard too", "also in", weightMap(`{"w": "a.safetensors", "v": "b.safetensors"}`)},
		{"54 a tensor the index does not list", "not in this file", weightMap(`{"v": "a.safetensors"}`)},
		{"55 the map is an array", "weight_map", weightMap(`[]`)},
		{"55 the map holds numbers", "weight_map", weightMap(`{"w": 1}`)},
		{"55 the map is empty", "weight_map", weightMap(`{}`)},
		{"55 a tensor twice", "comes twice", weightMap(`{"w": "a.safetensors", "w": "b.safetensors"}`)},
		{"55 very many shards", "at most 1024", weightMap(manyShards(100_000))},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, "", c.want, func() error { return openWeights(folder(c.files)) })
		})
	}
}

func manyShards(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"t%d":"s%d.safetensors"`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

func TestSpellings(t *testing.T) {
	for _, name := range []string{
		"diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.fp16.json",
		"diffusion_pytorch_model.fp16.safetensors.index.json", "model.safetensors.index.json",
	} {
		err := openWeights(folder(map[string]string{"unet/" + name: `{"weight_map": {"w": "x.safetensors"}}`, "unet/x.safetensors": string(container(one, 8))}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	both := folder(map[string]string{
		"unet/diffusion_pytorch_model.safetensors":      string(container(one, 8)),
		"unet/diffusion_pytorch_model.fp16.safetensors": string(container(`{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, 4)),
	})
	for _, c := range []struct {
		opts []Option
		want int64
	}{{nil, 8}, {[]Option{WithVariant("fp16")}, 4}} {
		m, err := OpenFS(both, c.opts...)
		if err != nil {
			t.Fatal(err)
		}
		comp, _ := m.Component("unet")
		w, err := comp.Weights()
		if err != nil {
			t.Fatal(err)
		}
		if info, _ := w.Info("w"); info.Bytes != c.want {
			t.Errorf("%d options: %d bytes, want %d", len(c.opts), info.Bytes, c.want)
		}
	}
}

// writeModel puts the one-tensor model into a real folder.
func writeModel(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "unet"), 0o777); err != nil {
		t.Fatal(err)
	}
	for name, f := range folder(map[string]string{"unet/diffusion_pytorch_model.safetensors": string(container(one, 8))}) {
		if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "unet", "diffusion_pytorch_model.safetensors")
}

func openDirWeights(dir string, opts ...Option) error {
	m, err := Open(dir, opts...)
	if err != nil {
		return err
	}
	defer m.Close()
	c, err := m.Component("unet")
	if err != nil {
		return err
	}
	_, err = c.Weights()
	return err
}

func TestFilesThatAreNotFiles(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside.safetensors")
	if err := os.WriteFile(outside, container(one, 8), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		put        func(at string) error
	}{
		{"49 a link out of the folder", "cannot be opened", func(at string) error { return os.Symlink(outside, at) }},
		{"50 a link to itself", "cannot be opened", func(at string) error { return os.Symlink(filepath.Base(at), at) }},
		{"51 a folder", "a folder", func(at string) error { return os.Mkdir(at, 0o777) }},
		{"51 a pipe", "a pipe", func(at string) error { return hostile.Mkfifo(at) }},
		{"51 a device", "cannot be opened", func(at string) error { return os.Symlink("/dev/zero", at) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			at := writeModel(t, dir)
			if err := errors.Join(os.Remove(at), c.put(at)); err != nil {
				t.Skip("cannot be made here:", err)
			}
			refused(t, "unet/diffusion_pytorch_model.safetensors", c.want, func() error { return openDirWeights(dir) })
		})
	}
	refused(t, "", "missing", func() error { return openDirWeights(filepath.Join(t.TempDir(), "none")) })
	refused(t, "", "not a folder", func() error { return openDirWeights(outside) })
}

// The download cache of Hugging Face is made of links, which lead out of the snapshot but not of the cache.
func TestDownloadCache(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "models--org--name")
	snapshot := filepath.Join(cache, "snapshots", "abc")
	at := writeModel(t, snapshot)
	blob := filepath.Join(cache, "blobs", "123")
	if err := errors.Join(os.Mkdir(filepath.Dir(blob), 0o777), os.Rename(at, blob), os.Symlink("../../../blobs/123", at)); err != nil {
		t.Fatal(err)
	}
	if err := openDirWeights(snapshot); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(at), os.Symlink("../../../../../etc/passwd", at)); err != nil {
		t.Fatal(err)
	}
	refused(t, "unet/", "cannot be opened", func() error { return openDirWeights(snapshot) })
}

// 57: a file may claim, and have, a terabyte; only its header is read.
func TestSparseFile(t *testing.T) {
	dir := t.TempDir()
	at := writeModel(t, dir)
	const n = 1 << 40
	header := fmt.Sprintf(`{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}`, n/4, n)
	if err := os.WriteFile(at, container(header, 0), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(at, int64(8+len(header)+n)); err != nil {
		t.Skip("no sparse files here:", err)
	}
	bounded.Do(t, 256, time.Second, func() {
		if err := openDirWeights(dir); err != nil {
			t.Error(err)
		}
	})
}

// faulty is a disk that fails in some way from one byte on.
type faulty struct {
	from int64
	err  error
	n    int // bytes given before the error
}

func (f faulty) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) <= f.from {
		return len(p), nil
	}
	return min(f.n, len(p)), f.err
}

func (f faulty) Close() error { return nil }

// Stat is of an empty file that is as old as a diskFile by default.
func (f faulty) Stat() (fs.FileInfo, error) { return fstest.MapFS{"f": {}}.Stat("f") }

func TestDiskErrors(t *testing.T) {
	for _, f := range []faulty{{5 << 20, syscall.EIO, 0}, {5 << 20, io.EOF, 100}, {5 << 20, io.ErrUnexpectedEOF, 7}, {5 << 20, nil, 0}, {0, io.EOF, 0}} {
		info := TensorInfo{Name: "w", DType: dtype.F32, File: "unet/f.safetensors", Bytes: 8 << 20, in: diskFile{file: f}}
		w := &Weights{tensors: map[string]TensorInfo{"w": info}}
		err := w.ReadTensor(t.Context(), "w", make([]byte, info.Bytes))
		var e *Error
		if !errors.As(err, &e) || e.File != info.File || e.Tensor != "w" || !strings.Contains(e.Got, "byte") || e.Err == nil {
			t.Errorf("%v: %v", f.err, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := &Weights{tensors: map[string]TensorInfo{"w": {Name: "w", DType: dtype.F32, Bytes: 8, in: diskFile{file: faulty{from: 8}}}}}
	if err := w.ReadTensor(ctx, "w", make([]byte, 8)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWriteAndRead(t *testing.T) {
	var b bytes.Buffer
	want := []float32{1, -2, 3.5, 4, 5, 6}
	if err := WriteSafetensors(&b, map[string]Tensor{"latents": {[]int{1, 2, 3}, want}, "scalar": {nil, []float32{7}}}); err != nil {
		t.Fatal(err)
	}
	m, err := OpenFS(folder(map[string]string{"unet/model.safetensors": b.String()}))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := m.Component("unet")
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 24)
	if err := w.ReadTensor(t.Context(), "latents", raw); err != nil {
		t.Fatal(err)
	}
	for i, v := range want {
		if got := binary.LittleEndian.Uint32(raw[4*i:]); got != math.Float32bits(v) {
			t.Errorf("element %d differs", i)
		}
	}
	if info, _ := w.Info("scalar"); len(info.Shape) != 0 || info.Bytes != 4 {
		t.Errorf("scalar: %+v", info)
	}
	if err := WriteSafetensors(io.Discard, map[string]Tensor{"x": {[]int{2}, want}}); err == nil {
		t.Error("a tensor with too many elements is written")
	}
}
