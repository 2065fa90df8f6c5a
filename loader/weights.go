package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/strictjson"
)

// Weights are the tensors of a component, in one file or several. They may be read from several goroutines.
type Weights struct {
	tensors map[string]TensorInfo
	files   []file
	reader  reader
}

// Weights opens the component's weights and checks their headers; nothing else is read yet. They are closed
// with the model.
func (c *Component) Weights() (_ *Weights, err error) {
	defer stack.Add(&err)
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.weights != nil {
		return c.weights, nil
	}
	name, err := c.weightsFile()
	if err != nil {
		return nil, err
	}
	w := &Weights{tensors: map[string]TensorInfo{}}
	if strings.HasSuffix(name, ".json") {
		err = w.addShards(c.m, name)
	} else {
		_, err = w.add(c.m, name)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	c.weights = w
	return w, nil
}

// HasWeights reports whether there are weights to open.
func (c *Component) HasWeights() bool {
	_, err := c.weightsFile()
	return err == nil
}

// weightsFile finds the safetensors file or the index of a sharded one, in the order in which the component's library
// looks for them: diffusers takes an index before a single file, transformers after it.
func (c *Component) weightsFile() (string, error) {
	variants := []string{"", "fp16"}
	if c.m.variant != "" {
		variants = []string{c.m.variant, ""}
	}
	for _, v := range variants {
		for _, name := range c.weightsNames(v) {
			if name = path.Join(c.Name, name); exists(c.m.fsys, name) {
				return name, nil
			}
		}
	}
	return "", c.noWeights()
}

// weightsNames are the names that weights of a variant may have. There are three ways of naming a variant's index.
func (c *Component) weightsNames(variant string) (names []string) {
	bases := []string{"diffusion_pytorch_model", "model"}
	if c.Library == "transformers" {
		slices.Reverse(bases)
	}
	for _, base := range bases {
		single := []string{base + ".safetensors"}
		index := []string{base + ".safetensors.index.json"}
		if variant != "" {
			single = []string{base + "." + variant + ".safetensors"}
			index = []string{base + ".safetensors.index." + variant + ".json", base + "." + variant + ".safetensors.index.json"}
		}
		if c.Library == "transformers" {
			names = append(append(names, single...), index...)
		} else {
			names = append(append(names, index...), single...)
		}
	}
	return names
}

// noWeights says what lies there in place of weights.
func (c *Component) noWeights() error {
	entries, _ := fs.ReadDir(c.m.fsys, c.Name)
	var variants []string
	for _, e := range entries {
		name := e.Name()
		if v, ok := variantOf(name); ok && !slices.Contains(variants, v) {
			variants = append(variants, v)
		}
	}
	if len(variants) > 0 {
		return stack.With(&Error{File: c.Name,
			Got:  "only weights of the variants " + badmodel.Quote(strings.Join(variants, ", ")),
			Want: "one of them to be chosen (-variant, loader.WithVariant)", Err: fs.ErrNotExist})
	}
	for _, other := range otherWeights {
		for _, e := range entries {
			if ok, _ := path.Match(other.pattern, e.Name()); ok {
				return stack.With(&Error{File: path.Join(c.Name, e.Name()), Got: other.what, Want: "safetensors; " + other.remedy})
			}
		}
	}
	return stack.With(&Error{File: c.Name, Got: "no weights",
		Want: "diffusion_pytorch_model.safetensors or model.safetensors", Err: fs.ErrNotExist})
}

// otherWeights are files in other formats.
var otherWeights = []struct{ pattern, what, remedy string }{
	{"*.bin", pickle, convert}, {"*.ckpt", pickle, convert}, {"*.pt", pickle, convert}, {"*.pth", pickle, convert},
	{"*.msgpack", "weights of Flax", "convert them with diffusers: from_pretrained(folder, from_flax=True), then save_pretrained(folder)"},
	{"*.onnx", "a network in ONNX's format", "the model in the diffusers layout has it"},
	{"*.h5", "weights of TensorFlow", "convert them with transformers: from_pretrained(folder, from_tf=True), then save_pretrained(folder)"},
	{"*.gguf", "weights in GGUF's format", "the model in the diffusers layout has them"},
}

const (
	pickle  = "a pickle, which can run code when loaded"
	convert = "convert it with diffusers: save_pretrained(folder, safe_serialization=True)"
)

// variantOf is the variant in the name of a weights file or of its index.
func variantOf(name string) (string, bool) {
	for _, base := range []string{"diffusion_pytorch_model.", "model."} {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		if v, ok := strings.CutSuffix(rest, ".safetensors"); ok {
			return v, true
		}
		if v, ok := strings.CutSuffix(rest, ".safetensors.index.json"); ok {
			return v, true
		}
		if v, ok := strings.CutPrefix(strings.TrimSuffix(rest, ".json"), "safetensors.index."); ok {
			return v, true
		}
	}
	return "", false
}

func exists(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}

// add opens one file and takes its tensors in.
func (w *Weights) add(m *Model, name string) ([]TensorInfo, error) {
	f, err := openFile(m.fsys, name)
	if err != nil {
		return nil, err
	}
	w.files = append(w.files, f)
	tensors, err := readHeader(f, f.size, name, m.limits)
	if changed := f.changed(); changed != nil {
		err = stack.With(&Error{File: name, Err: changed})
	}
	if err != nil {
		return nil, err
	}
	for _, t := range tensors {
		if other, twice := w.tensors[t.Name]; twice {
			return nil, stack.With(&Error{File: name, Tensor: t.Name, Got: "also in " + badmodel.Quote(other.File)})
		}
		t.in = f
		w.tensors[t.Name] = t
	}
	return tensors, nil
}

// addShards opens the files an index names. Index and files must agree.
func (w *Weights) addShards(m *Model, index string) error {
	raw, err := m.read(index, m.limits.Index, "Index")
	if err != nil {
		return err
	}
	shardOf, err := readShardIndex(raw, index, m.limits)
	if err != nil {
		return err
	}
	shards := map[string]bool{}
	for _, shard := range shardOf {
		shards[shard] = true
	}
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		tensors, err := w.add(m, path.Join(path.Dir(index), shard))
		if err != nil {
			return err
		}
		for _, t := range tensors {
			if shardOf[t.Name] != shard {
				return stack.With(&Error{File: t.File, Tensor: t.Name, Got: "not in this file by " + index})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shardOf)) {
		shard := shardOf[name]
		if _, ok := w.tensors[name]; !ok {
			return stack.With(&Error{File: path.Join(path.Dir(index), shard), Tensor: name, Got: "missing",
				Want: "a tensor that " + index + " lists"})
		}
	}
	return nil
}

// readShardIndex reads which file holds which tensor.
func readShardIndex(raw []byte, index string, limits Limits) (shardOf map[string]string, err error) {
	shardOf = map[string]string{}
	shards := map[string]bool{}
	d := strictjson.New(raw, limits.Nesting)
	err = d.Object(func(key string) error {
		if key != "weight_map" {
			return d.Skip()
		}
		return d.Object(func(name string) error {
			shard, err := d.String()
			if err != nil {
				return err
			}
			shardOf[name], shards[shard] = shard, true
			switch bad := (Error{File: index, Tensor: name, Field: "weight_map"}); {
			case strings.ContainsAny(shard, `/\`), !fs.ValidPath(shard), !strings.HasSuffix(shard, ".safetensors"):
				bad.Got, bad.Want = badmodel.Quote(shard), "the name of a safetensors file beside the index"
				return stack.With(&bad)
			case len(shards) > limits.Shards:
				bad.Got, bad.Want = "more files", atMost(limits.Shards, "Shards")
				return stack.With(&bad)
			case len(shardOf) > limits.Tensors:
				bad.Got, bad.Want = "more tensors", atMost(limits.Tensors, "Tensors")
				return stack.With(&bad)
			}
			return nil
		})
	})
	if err == nil {
		err = d.End()
	}
	switch {
	case errors.As(err, new(*Error)):
		return nil, err
	case err != nil:
		return nil, stack.With(&Error{File: index, Field: "weight_map", Got: "not an object of tensor and file names",
			Err: err})
	case len(shardOf) == 0:
		return nil, stack.With(&Error{File: index, Field: "weight_map", Got: "empty or missing"})
	}
	return shardOf, nil
}

// Names lists the tensors.
func (w *Weights) Names() []string { return slices.Sorted(maps.Keys(w.tensors)) }

// Info describes a tensor.
func (w *Weights) Info(name string) (TensorInfo, bool) {
	t, ok := w.tensors[name]
	return t, ok
}

// Shape is the shape of a tensor and the file that holds it; fs.ErrNotExist if there is none, and an *Error if its type
// is not one that weights are computed with. It makes Weights a layers.Params.
func (w *Weights) Shape(name string) (shape []int, file string, err error) {
	t, ok := w.tensors[name]
	switch {
	case !ok:
		return nil, "", fs.ErrNotExist
	case !t.DType.Float():
		return nil, "", stack.With(&Error{File: t.File, Tensor: name, Got: "stored as " + t.Stored,
			Want: "F32, F16, BF16 or F64"})
	}
	return t.Shape, t.File, nil
}

// ReadTensor fills dst, of the tensor's Bytes, unless the context ends first.
func (w *Weights) ReadTensor(ctx context.Context, name string, dst []byte) (err error) {
	defer stack.Add(&err)
	t, ok := w.tensors[name]
	if !ok {
		return stack.With(&Error{Tensor: name, Got: "missing"})
	}
	if int64(len(dst)) != t.Bytes {
		return stack.With(fmt.Errorf("tensor %s is of %d bytes, the buffer of %d", badmodel.Quote(name), t.Bytes, len(dst)))
	}
	if t.DType == dtype.Invalid {
		return stack.With(&Error{File: t.File, Tensor: name, Got: "stored as " + t.Stored,
			Want: "F32, F16, BF16, F64, I32 or I64"})
	}
	err = w.reader.read(ctx, t, dst)
	if err != nil && err == ctx.Err() {
		return err
	}
	if changed := t.in.changed(); changed != nil {
		return stack.With(&Error{File: t.File, Tensor: t.Name, Err: changed})
	}
	return err
}

func (w *Weights) close() error {
	var errs []error
	for _, f := range w.files {
		errs = append(errs, f.Close())
	}
	w.files = nil
	return errors.Join(errs...)
}
