package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
)

// Misfits compares a config with the weights it is for. A model that does not fit its config has hundreds of weights
// that are missing or of another shape; a few of them say which field it is.
type Misfits struct {
	Params Params
	File   string // the config
	errs   []error
}

// Dim compares a field with one dimension of a weight, if there is that weight.
func (m *Misfits) Dim(field string, want int, tensor string, axis int) {
	shape, _, err := m.Params.Shape(tensor)
	if err == nil && axis < len(shape) && shape[axis] != want {
		m.add(field, want, fmt.Sprintf("%d: %s is of shape %v", shape[axis], tensor, shape))
	}
}

// Rank compares a field that decides how many dimensions a weight has.
func (m *Misfits) Rank(field string, value any, want int, tensor string) {
	shape, _, err := m.Params.Shape(tensor)
	if err == nil && len(shape) != want {
		m.add(field, value, fmt.Sprintf("what %s of shape %v is for", tensor, shape))
	}
}

// Count compares a field with how many weights there are whose names differ in a number: tensor has a %d for it.
func (m *Misfits) Count(field string, want int, tensor string) {
	n := 0
	for m.has(fmt.Sprintf(tensor, n)) {
		n++
	}
	if n != want {
		m.add(field, want, fmt.Sprintf("%d: so many %s there are", n, strings.Replace(tensor, "%d", "*", 1)))
	}
}

// Part compares a field that says whether there is a part with the weights, of which tensor is one.
func (m *Misfits) Part(field string, value any, wanted bool, tensor string) {
	if there := m.has(tensor); there != wanted {
		has := "has"
		if !there {
			has = "does not have"
		}
		m.add(field, value, fmt.Sprintf("what fits a checkpoint that %s %s", has, tensor))
	}
}

func (m *Misfits) has(tensor string) bool {
	_, _, err := m.Params.Shape(tensor)
	return !errors.Is(err, fs.ErrNotExist)
}

func (m *Misfits) add(field string, got any, want string) {
	m.errs = append(m.errs, &badmodel.Error{File: m.File, Field: field, Got: fmt.Sprint(got), Want: want})
}

// Err joins the first few of what was found: a field that is wrong lets others look wrong.
func (m *Misfits) Err() error { return stack.With(errors.Join(m.errs[:min(3, len(m.errs))]...)) }
