package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/big"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/euryale-ml/euryale/internal/bounded"
)

// A header is refused with an *Error, or its tensors have names of their own, the size their shape says, and
// fill the data from first byte to last.
func FuzzHeader(f *testing.F) {
	for _, c := range badContainers {
		if len(c.Raw) < 1000 {
			f.Add(c.Raw)
		}
	}
	f.Add(container(one, 8))
	f.Add(container(`{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"I64","shape":[],"data_offsets":[12,20]}}`, 20))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var tensors []TensorInfo
		var err error
		bounded.Do(t, 64, 2*time.Second, func() { tensors, err = readHeader(bytes.NewReader(raw), int64(len(raw)), "f", DefaultLimits()) })
		if err != nil {
			mustBeError(t, err)
			return
		}
		at := 8 + int64(binary.LittleEndian.Uint64(raw))
		names := map[string]bool{}
		for _, x := range tensors {
			size := big.NewInt(int64(storedBits[x.Stored]))
			for _, n := range x.Shape {
				size.Mul(size, big.NewInt(int64(n)))
			}
			if names[x.Name] || x.begin != at || size.Cmp(big.NewInt(8*x.stored())) != 0 {
				t.Fatalf("tensor %q %v %v: %d bytes at %d, the last ended at %d", x.Name, x.DType, x.Shape, x.Bytes, x.begin, at)
			}
			names[x.Name] = true
			at += x.stored()
		}
		if at != int64(len(raw)) {
			t.Fatalf("tensors end at %d, the file at %d", at, len(raw))
		}
	})
}

// A model_index.json is refused with an *Error, or it names folders, and only those are looked into.
func FuzzModelIndex(f *testing.F) {
	f.Add(`{"_class_name": "P", "unet": ["diffusers", "UNet2DConditionModel"]}`)
	f.Add(`{"_class_name": "P", "unet": [null, null], "x": 1}`)
	f.Add(`{"_class_name": "P", "..": ["diffusers", "UNet2DConditionModel"], "unet": ["transformers", "X"]}`)
	f.Fuzz(func(t *testing.T, index string) {
		seen := &opened{FS: hideout(map[string]string{"model_index.json": index, "unet/model.safetensors": string(container(one, 8))})}
		var err error
		var components []*Component
		bounded.Do(t, 64, 2*time.Second, func() {
			var m *Model
			if m, err = OpenFS(seen); err == nil {
				components = m.Components()
				for _, c := range components {
					_, werr := c.Weights()
					_, _, cerr := c.Config()
					err = errors.Join(err, werr, cerr)
				}
			}
		})
		mustBeError(t, err)
		folders := map[string]bool{".": true}
		for _, c := range components {
			if folders[c.Name] || !fs.ValidPath(c.Name) || path.Base(c.Name) != c.Name {
				t.Fatalf("component %q comes twice or is no folder's name", c.Name)
			}
			folders[c.Name] = true
		}
		for _, name := range seen.names {
			if !folders[path.Dir(name)] {
				t.Fatalf("%q was opened, components are %v", name, folders)
			}
		}
	})
}

// A shard index is refused with an *Error, or every tensor comes from the file the index says, and no file
// outside the component's folder is looked at.
func FuzzShardIndex(f *testing.F) {
	f.Add(`{"weight_map": {"w": "a.safetensors"}}`)
	f.Add(`{"metadata": {"total_size": 16}, "weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}`)
	for _, shard := range []string{"../secret.safetensors", "/secret.safetensors", "..", "./a.safetensors", "x/a.safetensors", `..\\secret.safetensors`} {
		f.Add(`{"weight_map": {"w": "` + shard + `"}}`)
	}
	f.Fuzz(func(t *testing.T, index string) {
		seen := &opened{FS: hideout(map[string]string{
			"model_index.json":                  `{"_class_name": "P", "unet": ["diffusers", "UNet2DConditionModel"]}`,
			"unet/model.safetensors.index.json": index, "unet/a.safetensors": string(container(one, 8)),
			"unet/b.safetensors": string(container(strings.Replace(one, `"w"`, `"v"`, 1), 8)),
		})}
		var err error
		bounded.Do(t, 64, 2*time.Second, func() { err = openWeights(seen) })
		mustBeError(t, err)
		for _, name := range seen.names {
			if name != "model_index.json" && path.Dir(name) != "unet" {
				t.Fatalf("%q was opened", name)
			}
		}
	})
}

func mustBeError(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.As(err, new(*Error)) {
		t.Fatalf("%v is no *Error", err)
	}
}

// hideout is a folder with weights also where no component's are, for an index to lead to.
func hideout(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for _, name := range []string{"secret.safetensors", "model.safetensors", "unet/x/a.safetensors", "other/model.safetensors"} {
		fsys[name] = &fstest.MapFile{Data: container(one, 8)}
	}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return fsys
}

// opened notes what is opened or looked at.
type opened struct {
	fs.FS
	names []string
}

func (o *opened) Open(name string) (fs.File, error) {
	o.names = append(o.names, name)
	return o.FS.Open(name)
}
