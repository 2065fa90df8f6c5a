package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
)

// Exit codes, for scripts. 2 is not among them: the Go runtime ends a program with it, before main if there is not the
// address space to begin in.
const (
	exitUsage     = 1 // the command line, or a request that no model could run
	exitMemory    = 3
	exitDevice    = 4
	exitModel     = 5
	exitIO        = 6 // a file or a stream could not be read or written
	exitBug       = 7 // a panic
	exitCancelled = 130
)

// fileError is a file or a stream that could not be read or written.
type fileError struct {
	problem string // "cannot write out.png"
	err     error
}

func (e *fileError) Error() string { return e.problem + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// bug is a panic of the command's own.
type bug struct {
	value any
	stack []byte
}

func (b *bug) Error() string { return fmt.Sprintf("panic: %v", b.value) }

func exitCode(err error) int {
	as := func(targets ...any) bool {
		for _, t := range targets {
			if errors.As(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return exitCancelled
	case as(new(*graphs.PanicError), new(*bug)):
		return exitBug
	case as(new(*graphs.MemoryError), new(*graphs.DeviceMemoryError), new(*offload.BudgetError), new(*offload.HostError)),
		errors.Is(err, syscall.ENOMEM):
		return exitMemory
	case as(new(*graphs.DeviceError)), errors.Is(err, graphs.ErrDeviceLost):
		return exitDevice
	case as(new(*fileError)), ofMachine(err):
		return exitIO
	case as(new(*loader.Error)), errors.Is(err, graphs.ErrNonFinite):
		return exitModel
	}
	return exitUsage
}

// ofMachine reports that reading failed for a reason that is not the model's.
func ofMachine(err error) bool {
	for _, e := range []error{syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ESTALE, syscall.ETIMEDOUT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func message(err error) string {
	const report = "%v\nThis is a bug in Euryale; please report it with what follows.\n%s"
	var p *graphs.PanicError
	var b *bug
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &p):
		return fmt.Sprintf(report, err, p.Stack)
	case errors.As(err, &b):
		return fmt.Sprintf(report, err, b.stack)
	}
	return err.Error()
}

// sink is standard output. It remembers its first error, so that what prints need not look at each.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	if err != nil {
		s.err = &fileError{"cannot write to standard output", bare(err)}
	}
	return n, s.err
}
