// Package loader opens model folders in the Hugging Face diffusers layout: model_index.json, the configs of its
// components, and their weights in safetensors files.
//
// A folder may hold anything, so nothing in it is believed: sizes are checked before memory is taken, names
// cannot lead out of the folder, and every refusal is an *Error that says where, what was found and what was
// wanted. Weights are read with ReadAt, never mapped: a file cut short under a mapping would end the process.
package loader

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/hostmem"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/strictjson"
)

// Error says what in a model folder is wrong: File, Tensor or Field, what was found and what was wanted.
type Error = badmodel.Error

// Model is an open model folder.
type Model struct {
	fsys       fs.FS
	variant    string
	linksInto  []string
	class      string
	index      map[string]json.RawMessage
	components []*Component
	limits     Limits
	close      func() error
	mu         sync.Mutex // over the components' weights
}

// Option is a choice made on opening.
type Option func(*Model)

// WithVariant prefers files of a variant ("fp16") over those without; either is taken if it is the only one.
func WithVariant(name string) Option { return func(m *Model) { m.variant = name } }

const indexFile = "model_index.json"

// Open opens a folder. Symbolic links must stay inside it, inside the download cache if it is a snapshot there, or lead
// into a folder of WithLinksInto: see Note [Which links are followed].
func Open(dir string, opts ...Option) (_ *Model, err error) {
	defer stack.Add(&err)
	m := newModel(opts)
	fsys, err := openDir(dir, m.linksInto)
	if err != nil {
		return nil, err
	}
	m.fsys, m.close = fsys, fsys.close
	if err := m.open(); err != nil {
		fsys.close()
		return nil, err
	}
	return m, nil
}

// OpenFS opens a folder in a file system whose files implement io.ReaderAt, as embed.FS and os.DirFS do.
func OpenFS(fsys fs.FS, opts ...Option) (_ *Model, err error) {
	defer stack.Add(&err)
	m := newModel(opts)
	m.fsys, m.close = fsys, func() error { return nil }
	if err := m.open(); err != nil {
		return nil, err
	}
	return m, nil
}

func newModel(opts []Option) *Model {
	m := &Model{limits: DefaultLimits()}
	for _, o := range opts {
		o(m)
	}
	return m
}

func (m *Model) open() error {
	if err := hostmem.Check(); err != nil {
		return err
	}
	raw, err := m.readJSON(indexFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &m.index); err != nil || m.index == nil {
		return stack.With(&Error{File: indexFile, Got: "not a JSON object", Err: err})
	}
	if err := json.Unmarshal(m.index["_class_name"], &m.class); err != nil {
		return stack.With(&Error{File: indexFile, Field: "_class_name", Got: "missing or not a string",
			Want: "a diffusers pipeline class"})
	}
	m.class = strings.TrimPrefix(m.class, "Flax")
	for _, key := range slices.Sorted(maps.Keys(m.index)) {
		raw := m.index[key]
		// Every pair of strings is a component; other values are settings.
		var pair []*string
		if strings.HasPrefix(key, "_") || json.Unmarshal(raw, &pair) != nil || len(pair) != 2 || pair[0] == nil || pair[1] == nil {
			continue
		}
		if !fs.ValidPath(key) || strings.ContainsAny(key, `/\`) || key == "." {
			return stack.With(&Error{File: indexFile, Field: badmodel.Quote(key), Got: "not a folder's name"})
		}
		// Classes that Flax's checkpoints name are PyTorch's for diffusers too.
		m.components = append(m.components, &Component{Name: key, Library: *pair[0], Class: strings.TrimPrefix(*pair[1], "Flax"), m: m})
	}
	return nil
}

// Class is the diffusers class of the pipeline.
func (m *Model) Class() string { return m.class }

// Components lists the components by name.
func (m *Model) Components() []*Component { return slices.Clone(m.components) }

// Component returns a component of the libraries diffusers and transformers.
func (m *Model) Component(name string) (*Component, error) {
	for _, c := range m.components {
		if c.Name != name {
			continue
		}
		if c.Library != "diffusers" && c.Library != "transformers" {
			return nil, stack.With(&Error{File: indexFile, Field: name, Got: "a class of " + badmodel.Quote(c.Library),
				Want: "diffusers or transformers"})
		}
		return c, nil
	}
	return nil, stack.With(&Error{File: indexFile, Field: name, Got: "no such component"})
}

// IndexValue is a setting in model_index.json as encoding/json gives it, and false if it is not there. What that cannot
// read, NaN say, is given as its text.
func (m *Model) IndexValue(key string) (v any, ok bool) {
	raw, ok := m.index[key]
	if ok && json.Unmarshal(raw, &v) != nil {
		return strictjson.Text(raw), true // a number that float64 does not hold, or none
	}
	return v, ok
}

// Close closes the folder and every file of it that is open. Reading weights afterwards is an error.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, c := range m.components {
		if c.weights != nil {
			errs = append(errs, c.weights.close()) // what they are stays known
		}
	}
	return stack.With(errors.Join(append(errs, m.close())...))
}

// Component is one folder of a model.
type Component struct {
	Name    string // of the folder
	Library string
	Class   string
	m       *Model
	weights *Weights
}

// Config reads config.json. file is its path inside the model.
func (c *Component) Config() (file string, raw []byte, err error) {
	file = path.Join(c.Name, "config.json")
	raw, err = c.m.readJSON(file)
	return file, raw, err
}

// File reads another JSON file of the component.
func (c *Component) File(name string) ([]byte, error) {
	return c.m.readJSON(path.Join(c.Name, name))
}

// TokenizerFile reads a file of a tokenizer that may be large: vocab.json, merges.txt, tokenizer.json or
// added_tokens.json. Its contents are not checked.
func (c *Component) TokenizerFile(name string) ([]byte, error) {
	return c.m.read(path.Join(c.Name, name), c.m.limits.Tokenizer, "Tokenizer")
}

// read reads a whole file of at most most bytes, the named limit.
func (m *Model) read(name string, most int64, limit string) ([]byte, error) {
	f, err := openFile(m.fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.size > most {
		return nil, stack.With(&Error{File: name, Got: fmt.Sprintf("%d bytes", f.size), Want: atMost(most, limit)})
	}
	raw := make([]byte, f.size)
	if n, err := readFull(f, raw, 0); err != nil {
		return nil, stack.With(&Error{File: name, Got: fmt.Sprintf("reading stopped at byte %d of %d", n, f.size), Err: err})
	}
	if err := f.changed(); err != nil {
		return nil, stack.With(&Error{File: name, Err: err})
	}
	if bytes.HasPrefix(raw, []byte(lfsPointer+"https://git-lfs")) {
		return nil, stack.With(&Error{File: name, Got: lfsHint})
	}
	return raw, nil
}

// readJSON reads a config and checks that it is not nested beyond reason. NaN and the infinities, which Python
// writes, come as strictjson.Plain has them.
func (m *Model) readJSON(name string) ([]byte, error) {
	raw, err := m.read(name, m.limits.Config, "Config")
	if err != nil {
		return nil, err
	}
	if raw = strictjson.Plain(raw); !json.Valid(raw) {
		return nil, stack.With(&Error{File: name, Got: "not JSON"})
	}
	if _, depth := strictjson.Extent(raw); depth > m.limits.Nesting {
		return nil, stack.With(&Error{File: name, Got: fmt.Sprintf("nested more than %d deep", m.limits.Nesting),
			Want: atMost(m.limits.Nesting, "Nesting")})
	}
	return raw, nil
}
