package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/outfile"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// Every kind of error has its code, and none has the Go runtime's.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("want a number"), exitUsage},
		{&pipeline.RequestError{Field: "height"}, exitUsage},
		{&graphs.MemoryError{}, exitMemory},
		{&graphs.DeviceMemoryError{}, exitMemory},
		{&offload.BudgetError{}, exitMemory},
		{&offload.HostError{}, exitMemory},
		{&loader.Error{File: "unet", Err: syscall.ENOMEM}, exitMemory},
		{&graphs.DeviceError{Err: errors.New("no")}, exitDevice},
		{graphs.ErrDeviceLost, exitDevice},
		{&loader.Error{File: "unet"}, exitModel},
		{&loader.Error{File: "unet", Err: fs.ErrPermission}, exitModel},
		{&loader.Error{File: "unet", Err: loader.ErrChanged}, exitModel},
		{&graphs.NonFiniteError{}, exitModel},
		{&loader.Error{File: "unet", Err: &fs.PathError{Err: syscall.EIO}}, exitIO},
		{&loader.Error{File: "unet", Err: syscall.EMFILE}, exitIO},
		{&outfile.Error{Problem: "cannot write a.png", Err: syscall.ENOSPC}, exitIO},
		{&graphs.PanicError{}, exitBug},
		{context.Canceled, exitCancelled},
		{errors.Join(context.Canceled, &graphs.MemoryError{}), exitCancelled},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%T %v: exit code %d, want %d", c.err, c.err, got, c.code)
		}
		if wrapped := fmt.Errorf("while testing: %w", c.err); c.err != nil && exitCode(wrapped) != c.code {
			t.Errorf("%T %v: wrapped, the exit code is %d, want %d", c.err, c.err, exitCode(wrapped), c.code)
		}
	}
}

// A panic of the command is reported as a bug, with its stack, also from the goroutine of a command that is abandoned.
func TestPanicsAreBugs(t *testing.T) {
	broken := func(context.Context, io.Writer, io.Writer) error { panic("oh") }
	for name, run := range map[string]runner{"in the goroutine of main": broken, "in another": abandon(broken)} {
		err := safely(func() error { return run(t.Context(), nil, nil) })
		if exitCode(err) != exitBug || !strings.HasPrefix(message(err), "internal error: oh\nThis is a bug in Euryale") ||
			!strings.Contains(message(err), "exit_test.go") {
			t.Errorf("%s: exit code %d, %s", name, exitCode(err), message(err))
		}
	}
}
