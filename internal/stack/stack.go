// Package stack gives errors the stack of the place where they arose, for %+v.
//
// An error gets its stack once, where a package makes it or gets it from code that is not this module's. What wraps it
// on its way out hides the stack from %+v, so public functions hand such errors to With or Add, which show the stack that
// is there and take a new one only where there is none. Messages, errors.Is and errors.As stay as they are.
package stack

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	pkgerrors "github.com/pkg/errors"
)

// With returns err with a stack: that of the error it wraps, if there is one, or else the caller's. nil stays nil.
func With(err error) error { return with(err) }

// Add is With for a result: defer stack.Add(&err).
func Add(err *error) {
	if *err != nil {
		*err = with(*err)
	}
}

func with(err error) error {
	switch err.(type) {
	case nil:
		return nil
	case interface {
		tracer
		fmt.Formatter
	}: // of this package or of github.com/pkg/errors: it prints its stack
		return err
	}
	t := traced{err, deepest(err)}
	if t.trace == nil {
		t.trace = callers()
	}
	if _, list := err.(interface{ Unwrap() []error }); list {
		return &tracedList{t}
	}
	return &t
}

// tracer is an error that knows its stack.
type tracer interface {
	error
	StackTrace() pkgerrors.StackTrace
}

// deepest is the stack nearest to where err arose, nil if there is none. Of errors that are joined the first counts.
func deepest(err error) (trace pkgerrors.StackTrace) {
	var t tracer
	for errors.As(err, &t) {
		trace = t.StackTrace()
		switch w := t.(type) {
		case interface{ Unwrap() error }:
			err = w.Unwrap()
		case interface{ Unwrap() []error }:
			err = errors.Join(w.Unwrap()...)
		default:
			return trace
		}
	}
	return trace
}

// callers is the stack of whoever called With or Add.
func callers() pkgerrors.StackTrace {
	var pcs [32]uintptr
	n := runtime.Callers(4, pcs[:]) // without Callers, callers, with, and With or Add
	trace := make(pkgerrors.StackTrace, n)
	for i, pc := range pcs[:n] {
		trace[i] = pkgerrors.Frame(pc)
	}
	return trace
}

// traced is an error with a stack.
type traced struct {
	error
	trace pkgerrors.StackTrace
}

func (t *traced) Unwrap() error { return t.error }

// StackTrace is the stack, as github.com/pkg/errors names it.
func (t *traced) StackTrace() pkgerrors.StackTrace { return t.trace }

// Format prints the error as it would be without a stack, and %+v the stack after its message.
func (t *traced) Format(s fmt.State, verb rune) {
	if verb == 'v' && s.Flag('+') {
		io.WriteString(s, t.Error())
		t.trace.Format(s, verb)
		return
	}
	fmt.Fprintf(s, fmt.FormatString(s, verb), t.error)
}

// tracedList is a list of errors with a stack. It stays a list, so that joining lists makes one list of them.
type tracedList struct{ traced }

func (t *tracedList) Unwrap() []error { return []error{t.error} }
