package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/outfile"
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
	case as(new(*graphs.PanicError)):
		return exitBug
	case as(new(*graphs.MemoryError), new(*graphs.DeviceMemoryError), new(*offload.BudgetError), new(*offload.HostError)),
		errors.Is(err, syscall.ENOMEM):
		return exitMemory
	case as(new(*graphs.DeviceError)), errors.Is(err, graphs.ErrDeviceLost):
		return exitDevice
	case as(new(*outfile.Error)), ofMachine(err):
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
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &p):
		return fmt.Sprintf(report, err, p.Stack)
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
		s.err = &outfile.Error{Problem: "cannot write to standard output", Err: outfile.Bare(err)}
	}
	return n, s.err
}

// File is the file behind it, nil if it is none.
func (s *sink) File() *os.File {
	f, _ := s.w.(*os.File)
	return f
}
