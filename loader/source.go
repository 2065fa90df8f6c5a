package loader

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"strings"

	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/stack"
)

// Source gives weights by name. Weights of a component, a Model and Values are sources, and a program's own type can be
// one: it may be used from several goroutines, and what it says of a name, and gives, never changes.
type Source interface {
	// Info describes a weight: its shape, the type and the number of bytes that ReadTensor gives.
	Info(name string) (TensorInfo, bool)
	// ReadTensor fills dst, of Info's Bytes, with the weight's elements in row-major, little-endian order, unless the
	// context ends first.
	ReadTensor(ctx context.Context, name string, dst []byte) error
}

// DType is the element type of a weight.
type DType = dtype.Type

// The types that weights may have.
const (
	F32  = dtype.F32
	F16  = dtype.F16
	BF16 = dtype.BF16
)

// Values are weights in memory.
type Values map[string]Tensor

// Info implements Source.
func (v Values) Info(name string) (TensorInfo, bool) {
	t, ok := v[name]
	if !ok {
		return TensorInfo{}, false
	}
	return TensorInfo{Name: name, DType: F32, Stored: "F32", Shape: t.Shape, Bytes: 4 * int64(len(t.F32)), File: "memory"}, true
}

// ReadTensor implements Source.
func (v Values) ReadTensor(_ context.Context, name string, dst []byte) (err error) {
	defer stack.Add(&err)
	t, ok := v[name]
	if !ok || len(dst) != 4*len(t.F32) {
		return stack.With(fmt.Errorf("weight %q has %d elements, the buffer %d bytes", name, len(t.F32), len(dst)))
	}
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	if n != len(t.F32) {
		return stack.With(fmt.Errorf("weight %q of shape %v has %d elements", name, t.Shape, len(t.F32)))
	}
	putF32(dst, t.F32)
	return nil
}

// Under puts a name and a dot before the names of a source: the weights of a component, whose names are checkpoint
// keys, are those of a graph whose scope is the component.
func Under(name string, s Source) Source { return under{name + ".", s} }

type under struct {
	prefix string
	Source
}

func (u under) Info(name string) (TensorInfo, bool) {
	key, ok := strings.CutPrefix(name, u.prefix)
	if !ok {
		return TensorInfo{}, false
	}
	info, ok := u.Source.Info(key)
	info.Name = name
	return info, ok
}

func (u under) ReadTensor(ctx context.Context, name string, dst []byte) error {
	key, ok := strings.CutPrefix(name, u.prefix)
	if !ok {
		return stack.With(&Error{Tensor: name, Got: "missing", Err: fs.ErrNotExist})
	}
	return stack.With(u.Source.ReadTensor(ctx, key, dst))
}

// ReadFloat32 reads a weight as float32.
func ReadFloat32(ctx context.Context, s Source, name string) (_ []float32, err error) {
	defer stack.Add(&err)
	info, ok := s.Info(name)
	if !ok {
		return nil, stack.With(&Error{Tensor: name, Got: "missing", Err: fs.ErrNotExist})
	}
	if !info.DType.Float() {
		return nil, stack.With(&Error{File: info.File, Tensor: name, Got: "stored as " + info.Stored,
			Want: "F32, F16, BF16 or F64"})
	}
	raw := make([]byte, info.Bytes)
	if err := s.ReadTensor(ctx, name, raw); err != nil {
		return nil, err
	}
	x := make([]float32, len(raw)/info.DType.Size())
	dtype.ToF32(x, raw, info.DType)
	return x, nil
}

// OpenFile opens one safetensors file as a source, to be closed by its Close.
func OpenFile(name string, opts ...Option) (_ *File, err error) {
	defer stack.Add(&err)
	m := newModel(opts)
	at, err := realPath(name) // the user names it, and so the links in its path
	if err != nil {
		return nil, openError(name, err)
	}
	d, err := openDir(filepath.Dir(at), nil)
	if err != nil {
		return nil, err
	}
	m.fsys = d
	f := &File{Weights: &Weights{tensors: map[string]TensorInfo{}}, dir: d}
	if _, err := f.add(m, filepath.Base(at)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// File is an open safetensors file.
type File struct {
	*Weights
	dir dirFS
}

// Close closes the file. Reading from it afterwards is an error.
func (f *File) Close() error {
	err := f.Weights.close()
	if e := f.dir.close(); err == nil {
		err = e
	}
	return stack.With(err)
}

// Info makes a Model a Source of all of its components' weights: names are a component's name, a dot and a key.
func (m *Model) Info(name string) (TensorInfo, bool) {
	w, key := m.split(name)
	if w == nil {
		return TensorInfo{}, false
	}
	return w.Info(key)
}

// ReadTensor makes a Model a Source.
func (m *Model) ReadTensor(ctx context.Context, name string, dst []byte) error {
	w, key := m.split(name)
	if w == nil {
		return stack.With(&Error{Tensor: name, Got: "missing", Err: fs.ErrNotExist})
	}
	return w.ReadTensor(ctx, key, dst)
}

// split finds the component that a name begins with. One whose weights cannot be opened has none; Component.Weights
// says why.
func (m *Model) split(name string) (*Weights, string) {
	component, key, ok := strings.Cut(name, ".")
	if !ok || path.Base(component) != component {
		return nil, ""
	}
	for _, c := range m.components {
		if c.Name == component {
			w, err := c.Weights()
			if err != nil {
				return nil, ""
			}
			return w, key
		}
	}
	return nil, ""
}

func putF32(dst []byte, src []float32) {
	for i, v := range src {
		bits := math.Float32bits(v)
		dst[4*i], dst[4*i+1], dst[4*i+2], dst[4*i+3] = byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24)
	}
}

// OpenWeights reads the headers of all weights of the model, which says what is wrong with them.
func (m *Model) OpenWeights() (err error) {
	defer stack.Add(&err)
	for _, c := range m.Components() {
		if !c.HasWeights() {
			continue
		}
		if _, err := c.Weights(); err != nil {
			return err
		}
	}
	return nil
}

// Sources are several sources as one: the first that has a name gives the weight.
type Sources []Source

func (s Sources) find(name string) (Source, TensorInfo) {
	for _, src := range s {
		if info, ok := src.Info(name); ok {
			return src, info
		}
	}
	return nil, TensorInfo{}
}

// Info implements Source.
func (s Sources) Info(name string) (TensorInfo, bool) {
	src, info := s.find(name)
	return info, src != nil
}

// Stored is the shape and the type of a weight.
func (s Sources) Stored(name string) (shape []int, t DType, ok bool) {
	src, info := s.find(name)
	return info.Shape, info.DType, src != nil
}

// ReadTensor implements Source.
func (s Sources) ReadTensor(ctx context.Context, name string, dst []byte) error {
	src, _ := s.find(name)
	if src == nil {
		return stack.With(fmt.Errorf("no source has the weight %s", name))
	}
	return stack.With(src.ReadTensor(ctx, name, dst))
}
