package stack_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
	pkgerrors "github.com/pkg/errors"
)

// arise makes an error with a stack, below is called by it.
func arise() error { return below() }

//go:noinline
func below() error { return stack.With(&badmodel.Error{File: "a", Got: "bad", Err: fs.ErrNotExist}) }

//go:noinline
func border(inner error) (err error) {
	defer stack.Add(&err)
	return fmt.Errorf("outer: %w", inner)
}

// lines are the functions of a stack that is printed.
func lines(err error) (functions []string) {
	for line := range strings.Lines(fmt.Sprintf("%+v", err)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "github.com/euryale-ml/euryale/internal/stack_test."); ok {
			functions = append(functions, name)
		}
	}
	return functions
}

func TestWith(t *testing.T) {
	if stack.With(nil) != nil {
		t.Error("nil has a stack")
	}
	var none error
	if stack.Add(&none); none != nil {
		t.Error("no error has a stack")
	}
	plain := &badmodel.Error{File: "a", Got: "bad", Err: fs.ErrNotExist}
	err := arise()
	for _, format := range []string{"%v", "%s", "%q", "%x", "%30.5s", "%-30v"} {
		if got, want := fmt.Sprintf(format, err), fmt.Sprintf(format, error(plain)); got != want {
			t.Errorf("%s prints %q, want %q", format, got, want)
		}
	}
	if got := fmt.Sprintf("%+v", err); !strings.HasPrefix(got, plain.Error()+"\n") {
		t.Errorf("%%+v prints %q", got)
	}
	if got := lines(err); len(got) < 3 || got[0] != "below" || got[1] != "arise" || got[2] != "TestWith" {
		t.Errorf("the stack is %q", got)
	}
	if stack.With(err) != err {
		t.Error("an error with a stack gets another")
	}
	var bad *badmodel.Error
	if !errors.As(err, &bad) || bad.File != "a" || !errors.Is(err, fs.ErrNotExist) {
		t.Error("the error is not reached through its stack")
	}
	// What wraps it hides the stack, and a border shows it again: the same, which begins where the error arose.
	wrapped := border(err)
	if got := lines(wrapped); len(got) < 3 || got[0] != "below" || got[1] != "arise" {
		t.Errorf("at the border the stack is %q", got)
	}
	if got := wrapped.Error(); got != "outer: "+plain.Error() || !errors.As(wrapped, &bad) {
		t.Errorf("at the border the error is %q", got)
	}
	if got := lines(border(errors.New("own"))); len(got) == 0 || got[0] != "border" {
		t.Errorf("the stack of an error that had none is %q", got)
	}
}

// An error of github.com/pkg/errors keeps the stack that it has, and one below others is the one that counts.
func TestForeignStack(t *testing.T) {
	foreign := pkgerrors.New("foreign")
	if stack.With(foreign) != foreign {
		t.Error("an error that prints its stack gets another")
	}
	outer := pkgerrors.Wrap(below(), "outer")
	if got := lines(fmt.Errorf("%w", outer)); got != nil {
		t.Errorf("a stack of %q from fmt.Errorf", got)
	}
	if got := lines(stack.With(fmt.Errorf("%w", outer))); len(got) == 0 || got[0] != "below" {
		t.Errorf("the stack is %q, want that of the cause", got)
	}
}

// listError is a list with a type of its own.
type listError struct{ list []error }

func (e *listError) Error() string   { return "a list" }
func (e *listError) Unwrap() []error { return e.list }

// Lists with a stack are joined to one list, of ten, and what is in them is reached.
func TestLists(t *testing.T) {
	many := func(n int) (errs []error) {
		for i := range n {
			errs = append(errs, &badmodel.Error{File: fmt.Sprint(i), Got: "bad"})
		}
		return errs
	}
	plain := badmodel.Join(badmodel.Join(many(8)...), badmodel.Join(many(9)...))
	traced := stack.With(badmodel.Join(stack.With(badmodel.Join(many(8)...)), stack.With(badmodel.Join(many(9)...))))
	if traced.Error() != plain.Error() || !strings.HasSuffix(traced.Error(), "and 7 more") {
		t.Errorf("%v\nwant %v", traced, plain)
	}
	if !errors.As(traced, new(*badmodel.Error)) || len(lines(traced)) == 0 {
		t.Errorf("%+v", traced)
	}
	own := &listError{[]error{fs.ErrExist, below()}}
	err := stack.With(own)
	var list *listError
	if !errors.As(err, &list) || list != own || !errors.Is(err, own) {
		t.Errorf("%v: the list is not reached", err)
	}
	if !errors.Is(err, fs.ErrExist) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v: what is in the list is not reached", err)
	}
	if got := lines(err); len(got) == 0 || got[0] != "below" {
		t.Errorf("the stack is %q, want that of what is in the list", got)
	}
}

func BenchmarkWith(b *testing.B) {
	err := errors.New("plain")
	for b.Loop() {
		stack.With(err)
	}
}
