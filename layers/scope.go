package layers

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Params says which weights exist. A checkpoint is one; Declared, which takes what a model asks for, another.
type Params interface {
	// Shape returns the shape of a weight and the file that holds it, or why it cannot be had: fs.ErrNotExist if there is
	// no such weight.
	Shape(name string) (shape []int, file string, err error)
}

// Declared is a Params for models without a checkpoint: every weight exists in the shape asked for. It
// records them.
type Declared map[string][]int

// Shape is of a weight already asked for; Scope adds those that are not.
func (d Declared) Shape(name string) ([]int, string, error) {
	s, ok := d[name]
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	return s, "", nil
}

// Scope is a place in the graph and the matching place in the checkpoint. The path of code that builds a
// model is the key of the weight it uses: s.Sub("down_blocks", 0) and then Weight("conv.bias").
type Scope struct {
	g         *G.ExprGraph
	component string
	path      string
	params    Params
	problems  *[]error
}

// NewScope is the root of a component ("unet", "text_encoder_2"), whose name stands before the checkpoint
// key in every node's name.
func NewScope(g *G.ExprGraph, component string, params Params) Scope {
	return Scope{g: g, component: component, params: params, problems: new([]error)}
}

// Sub goes down: names and indices, joined with dots.
func (s Scope) Sub(path ...any) Scope {
	for _, p := range path {
		if p == "" {
			continue
		}
		if s.path != "" {
			s.path += "."
		}
		s.path += fmt.Sprint(p)
	}
	return s
}

// Name is the place's full name, component first.
func (s Scope) Name() string {
	if s.path == "" {
		return s.component
	}
	return s.component + "." + s.path
}

// Weight adds the leaf node of a weight. A missing or misshapen weight is recorded, and building goes on, so
// that Err can list them all.
func (s Scope) Weight(name string, shape ...int) *G.Node {
	key := s.Sub(name)
	found, file, err := s.params.Shape(key.path)
	if d, grows := s.params.(Declared); grows && err != nil {
		d[key.path], found, err = shape, shape, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.problem(&badmodel.Error{File: s.component, Tensor: key.path, Got: "the weight is missing", Want: fmt.Sprint(shape)})
	case err != nil:
		s.problem(err)
	case !tensor.Shape(found).Eq(tensor.Shape(shape)):
		s.problem(&badmodel.Error{File: file, Tensor: key.path, Got: fmt.Sprintf("shape %v", found), Want: fmt.Sprint(shape)})
	}
	return G.NewTensor(s.g, G.Float32, len(shape), G.WithShape(shape...), G.WithName(key.Name()))
}

// Has reports whether the checkpoint holds a weight here.
func (s Scope) Has(name string) bool {
	_, _, err := s.params.Shape(s.Sub(name).path)
	return !errors.Is(err, fs.ErrNotExist)
}

// maxProblems ends the building of a graph: a config may ask for millions of layers that no checkpoint has.
const maxProblems = 1000

func (s Scope) problem(err error) {
	if len(*s.problems) == maxProblems {
		err = fmt.Errorf("%s: more than %d weights are missing or of another shape", s.component, maxProblems)
	}
	if !s.hopeless() {
		*s.problems = append(*s.problems, stack.With(err))
	}
}

func (s Scope) hopeless() bool { return len(*s.problems) > maxProblems }

// Err joins the problems with weights met so far, of which it lists the first ten.
func (s Scope) Err() error { return stack.With(badmodel.Join(*s.problems...)) }

// Input adds a leaf the user binds before each run.
func (s Scope) Input(name string, dt tensor.Dtype, shape ...int) *G.Node {
	return G.NewTensor(s.g, dt, len(shape), G.WithShape(shape...), G.WithName(s.Sub(name).Name()))
}

// On starts a flow at a node.
func (s Scope) On(x *G.Node) Flow { return Flow{s: s, n: x} }
