// Package panics turns panics into errors: Gorgonia and tensor panic at many places, and so may ops of the user's.
package panics

import (
	"fmt"
	"runtime/debug"
)

// Error is a panic turned into an error: a program that runs graphs should outlive a bug in one of their ops.
type Error struct {
	Value any // what was panicked with
	Stack []byte
}

func (e *Error) Error() string { return fmt.Sprintf("internal error: %v", e.Value) }

// Unwrap is the value, if that is an error.
func (e *Error) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Recovered, deferred, makes a panic the error of the function that defers it.
func Recovered(err *error) {
	if v := recover(); v != nil {
		*err = &Error{v, debug.Stack()}
	}
}
