package program

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a panic turned into an error. Gorgonia and tensor panic at many places, and so may ops of the
// caller's own; a program that runs graphs should outlive a bug in one of them.
type PanicError struct {
	Value any // what was panicked with
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("internal error: %v", e.Value) }

// Unwrap is the value, if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Recovered, deferred, makes a panic the error of the function that defers it.
func Recovered(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{v, debug.Stack()}
	}
}
