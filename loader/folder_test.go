package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// Links are followed into what the user names, and nowhere else.
func TestLinks(t *testing.T) {
	for _, c := range []struct {
		name string
		lay  func(t *testing.T, at string) (dir string, opts []Option)
		want string // in the error; empty: it opens
	}{
		{"the folder is a link", func(t *testing.T, at string) (string, []Option) {
			writeModel(t, at+"/model")
			return symlink(t, "model", at+"/named"), nil
		}, ""},
		{"a link to a snapshot of the cache", func(t *testing.T, at string) (string, []Option) {
			return symlink(t, writeSnapshot(t, at+"/hub", false), at+"/named"), nil
		}, ""},
		{"a snapshot", func(t *testing.T, at string) (string, []Option) { return writeSnapshot(t, at, false), nil }, ""},
		{"a snapshot with absolute links", func(t *testing.T, at string) (string, []Option) { return writeSnapshot(t, at, true), nil }, ""},
		{"blobs on another disk", func(t *testing.T, at string) (string, []Option) {
			dir := writeSnapshot(t, at, false)
			move(t, at+"/models--a--b/blobs", at+"/disk")
			return dir, nil
		}, "-links-into AT/disk"},
		{"blobs on another disk that the user names", func(t *testing.T, at string) (string, []Option) {
			dir := writeSnapshot(t, at, false)
			move(t, at+"/models--a--b/blobs", at+"/disk")
			return dir, []Option{WithLinksInto(at + "/disk")}
		}, ""},
		{"blobs that are everything", func(t *testing.T, at string) (string, []Option) {
			dir := writeSnapshot(t, at, false)
			if err := os.RemoveAll(at + "/models--a--b/blobs"); err != nil {
				t.Fatal(err)
			}
			symlink(t, "/", at+"/models--a--b/blobs")
			return dir, nil
		}, "does not exist"},
		{"blobs on another disk, absolute links", func(t *testing.T, at string) (string, []Option) {
			dir := writeSnapshot(t, at, true)
			move(t, at+"/models--a--b/blobs", at+"/disk")
			return dir, []Option{WithLinksInto(at + "/disk")}
		}, ""},
		{"the cache is a link", func(t *testing.T, at string) (string, []Option) {
			writeSnapshot(t, at+"/disk", true)
			return symlink(t, at+"/disk", at+"/hub") + "/models--a--b/snapshots/1", nil
		}, ""},
		{"a blob that is a link out of the cache", func(t *testing.T, at string) (string, []Option) {
			dir := writeSnapshot(t, at, false)
			move(t, at+"/models--a--b/blobs/w", at+"/elsewhere")
			return dir, nil
		}, "outside the model's folder"},
		{"a folder of a name like a snapshot's", func(t *testing.T, at string) (string, []Option) {
			writeModel(t, at+"/snapshots/1")
			move(t, at+"/snapshots/1/unet/diffusion_pytorch_model.safetensors", at+"/w")
			return at + "/snapshots/1", nil
		}, "outside the model's folder"},
		{"a component on another disk", func(t *testing.T, at string) (string, []Option) {
			writeModel(t, at+"/model")
			move(t, at+"/model/unet", at+"/disk/unet")
			return at + "/model", nil
		}, "-links-into " + "AT/disk/unet"},
		{"a component on another disk that the user names", func(t *testing.T, at string) (string, []Option) {
			writeModel(t, at+"/model")
			move(t, at+"/model/unet", at+"/disk/unet")
			return at + "/model", []Option{WithLinksInto(at + "/disk")}
		}, ""},
		{"a weight file on another disk that the user names through a link", func(t *testing.T, at string) (string, []Option) {
			move(t, writeModel(t, at+"/model"), at+"/disk/w")
			return at + "/model", []Option{WithLinksInto(symlink(t, at+"/disk", at+"/mount"))}
		}, ""},
		{"an absolute link inside the folder", func(t *testing.T, at string) (string, []Option) {
			move(t, writeModel(t, at+"/model"), at+"/model/w")
			return at + "/model", nil
		}, ""},
		{"a link beside what the user names", func(t *testing.T, at string) (string, []Option) {
			move(t, writeModel(t, at+"/model"), at+"/disk2/w")
			return at + "/model", []Option{WithLinksInto(makeDir(t, at+"/disk"))}
		}, "outside the model's folder"},
		{"a named folder that is missing", func(t *testing.T, at string) (string, []Option) {
			writeModel(t, at+"/model")
			return at + "/model", []Option{WithLinksInto(at + "/none")}
		}, "none: missing"},
		{"a folder that is a link to nothing", func(t *testing.T, at string) (string, []Option) {
			writeModel(t, at+"/model")
			move(t, at+"/model/unet", at+"/disk/unet")
			if err := os.RemoveAll(at + "/disk"); err != nil {
				t.Fatal(err)
			}
			return at + "/model", nil
		}, "a link to a folder that does not exist"},
		{"a link to nothing", func(t *testing.T, at string) (string, []Option) {
			w := writeModel(t, at+"/model")
			if err := errors.Join(os.Remove(w), os.Symlink("nothing", w)); err != nil {
				t.Fatal(err)
			}
			return at + "/model", nil
		}, "a link to a file that does not exist"},
		{"a device", func(t *testing.T, at string) (string, []Option) {
			w := writeModel(t, at+"/model")
			if err := errors.Join(os.Remove(w), os.Symlink("/dev/zero", w)); err != nil {
				t.Fatal(err)
			}
			return at + "/model", []Option{WithLinksInto("/dev")}
		}, "a device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			dir, opts := c.lay(t, at)
			err = openDirWeights(dir, opts...)
			if want := strings.ReplaceAll(c.want, "AT", at); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
			if err != nil && !errors.As(err, new(*Error)) {
				t.Errorf("a %T", err)
			}
		})
	}
}

// writeSnapshot lays a model out as the hub's client does.
func writeSnapshot(t *testing.T, at string, absolute bool) (dir string) {
	t.Helper()
	model := at + "/models--a--b"
	dir = model + "/snapshots/1"
	w := writeModel(t, dir)
	makeDir(t, model+"/blobs")
	blob := model + "/blobs/w"
	if err := os.Rename(w, blob); err != nil {
		t.Fatal(err)
	}
	target := blob
	if !absolute {
		target = "../../../blobs/w"
	}
	symlink(t, target, w)
	return dir
}

func symlink(t *testing.T, target, at string) string {
	t.Helper()
	if err := os.Symlink(target, at); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	return at
}

func makeDir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// move moves a file or folder and leaves a link to it.
func move(t *testing.T, from, to string) {
	t.Helper()
	makeDir(t, filepath.Dir(to))
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	symlink(t, to, from)
}

// What lies there in place of weights is named.
func TestWeightsThatAreNotThere(t *testing.T) {
	file := string(container(one, 8))
	for _, c := range []struct {
		name  string
		files map[string]string
		opts  []Option
		want  string // in the error; empty: they are found
	}{
		{"bf16 alone", map[string]string{"diffusion_pytorch_model.bf16.safetensors": file}, nil, "only weights of the variants bf16, want one of them to be chosen"},
		{"two variants", map[string]string{"diffusion_pytorch_model.bf16.safetensors": file, "diffusion_pytorch_model.non_ema.safetensors": file}, nil, "bf16, non_ema"},
		{"shards of a variant", map[string]string{"diffusion_pytorch_model.safetensors.index.ema.json": "{}"}, nil, "variants ema"},
		{"a variant that is chosen", map[string]string{"diffusion_pytorch_model.bf16.safetensors": file}, []Option{WithVariant("bf16")}, ""},
		{"a variant that is not there", map[string]string{"diffusion_pytorch_model.bf16.safetensors": file}, []Option{WithVariant("ema")}, "variants bf16"},
		{"without the variant that is asked for", map[string]string{"diffusion_pytorch_model.safetensors": file}, []Option{WithVariant("ema")}, ""},
		{"fp16 alone", map[string]string{"diffusion_pytorch_model.fp16.safetensors": file}, nil, ""},
		{"a pickle", map[string]string{"diffusion_pytorch_model.bin": "x"}, nil, "a pickle"},
		{"Flax", map[string]string{"diffusion_flax_model.msgpack": "x"}, nil, "from_flax"},
		{"ONNX", map[string]string{"model.onnx": "x"}, nil, "ONNX"},
		{"nothing", map[string]string{"config.json": "{}"}, nil, "no weights, want diffusion_pytorch_model.safetensors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{}
			for name, content := range c.files {
				files["unet/"+name] = content
			}
			err := openWeights(folder(files), c.opts...)
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// diffusers takes shards before a single file, transformers after it.
func TestOrderOfNames(t *testing.T) {
	short, long := string(container(one, 8)), string(container(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 16))
	for _, c := range []struct {
		library string
		files   map[string]string
	}{
		{"diffusers", map[string]string{"diffusion_pytorch_model.safetensors": short, "diffusion_pytorch_model.safetensors.index.json": `{"weight_map":{"w":"s.safetensors"}}`, "s.safetensors": long}},
		{"transformers", map[string]string{"model.safetensors": long, "model.safetensors.index.json": `{"weight_map":{"w":"s.safetensors"}}`, "s.safetensors": short}},
		{"diffusers", map[string]string{"diffusion_pytorch_model.safetensors": long, "model.safetensors": short}},
		{"transformers", map[string]string{"diffusion_pytorch_model.safetensors": short, "model.safetensors": long}},
	} {
		files := map[string]string{"model_index.json": fmt.Sprintf(`{"_class_name": "P", "unet": [%q, "X"]}`, c.library)}
		for name, content := range c.files {
			files["unet/"+name] = content
		}
		m, err := OpenFS(folder(files))
		if err != nil {
			t.Fatal(err)
		}
		comp, _ := m.Component("unet")
		w, err := comp.Weights()
		if err != nil {
			t.Fatal(err)
		}
		if info, _ := w.Info("w"); info.Bytes != 16 {
			t.Errorf("%s of %v: the wrong file", c.library, c.files)
		}
	}
}

// A header whose length begins as a pickle, or another format, does is a header.
func TestLengthsThatLookLikeOtherFormats(t *testing.T) {
	for _, n := range []int{640, 66176, 131712} {
		header := one + strings.Repeat(" ", n-len(one))
		if err := openWeights(folder(map[string]string{"unet/model.safetensors": string(container(header, 8))})); err != nil {
			t.Errorf("a header of %d bytes: %v", n, err)
		}
	}
}

func TestGitLFSPointersInSmallFiles(t *testing.T) {
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"
	_, err := OpenFS(folder(map[string]string{"model_index.json": pointer}))
	if err == nil || !strings.Contains(err.Error(), "git lfs pull") {
		t.Errorf("model_index.json: %v", err)
	}
	m, err := OpenFS(folder(map[string]string{"unet/config.json": pointer, "unet/vocab.json": pointer}))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := m.Component("unet")
	if _, _, err := c.Config(); err == nil || !strings.Contains(err.Error(), "git lfs pull") {
		t.Errorf("config.json: %v", err)
	}
	if _, err := c.TokenizerFile("vocab.json"); err == nil || !strings.Contains(err.Error(), "git lfs pull") {
		t.Errorf("vocab.json: %v", err)
	}
}

// Float64 comes as float32, in chunks too; types that nothing is computed with may lie beside.
func TestTypesOfTensors(t *testing.T) {
	const n = readChunk/8 + 3
	data := make([]byte, 0, 8*n+2)
	for i := range n {
		data = binary.LittleEndian.AppendUint64(data, math.Float64bits(float64(i)+1e-12))
	}
	header := fmt.Sprintf(`{"w":{"dtype":"F64","shape":[%d],"data_offsets":[0,%d]},"u":{"dtype":"U8","shape":[2],"data_offsets":[%d,%d]}}`, n, 8*n, 8*n, 8*n+2)
	raw := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	m, err := OpenFS(folder(map[string]string{"unet/model.safetensors": string(append(append(raw, data...), 1, 2))}))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := m.Component("unet")
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	info, _ := w.Info("w")
	if info.DType != dtype.F32 || info.Stored != "F64" || info.Bytes != 4*n {
		t.Fatalf("%+v", info)
	}
	got := make([]byte, info.Bytes)
	if err := w.ReadTensor(t.Context(), "w", got); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if v := math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:])); v != float32(float64(i)+1e-12) {
			t.Fatalf("number %d is %g", i, v)
		}
	}
	if _, _, err := w.Shape("u"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "stored as U8") {
		t.Errorf("the shape of bytes: %v", err)
	}
	if err := w.ReadTensor(t.Context(), "u", make([]byte, 2)); err == nil {
		t.Error("bytes are read")
	}
}

// One file is opened wherever it lies, through links too: the user names it.
func TestOneFile(t *testing.T) {
	at := t.TempDir()
	snapshot := writeSnapshot(t, at, false)
	plain := writeModel(t, at+"/model")
	for _, name := range []string{snapshot + "/unet/diffusion_pytorch_model.safetensors", plain, symlink(t, plain, at+"/named.safetensors")} {
		f, err := OpenFile(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		x, err := ReadFloat32(t.Context(), Under("unet", f), "unet.w")
		if err != nil || len(x) != 2 {
			t.Errorf("%s: %v, %v", name, x, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := ReadFloat32(t.Context(), f, "w"); err == nil {
			t.Error("a closed file is read")
		}
	}
	if _, err := OpenFile(at + "/none"); !errors.As(err, new(*Error)) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What is no number of float64 is there all the same.
func TestOddIndexValues(t *testing.T) {
	m, err := OpenFS(folder(map[string]string{"model_index.json": `{"_class_name": "P", "a": NaN, "b": Infinity, "c": 1e999, "d": null, "e": true}`}))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"a": "NaN", "b": "Infinity", "c": "1e999", "d": nil, "e": true} {
		if v, ok := m.IndexValue(key); !ok || v != want {
			t.Errorf("%s: %v, %v, want %v", key, v, ok, want)
		}
	}
	if _, ok := m.IndexValue("f"); ok {
		t.Error("a key that is not there is there")
	}
}
