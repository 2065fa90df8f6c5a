// Command euryale makes pictures from prompts with diffusion models in the Hugging Face diffusers layout, and
// looks into such models.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
)

// Exit codes, for scripts.
const (
	exitUsage     = 1
	exitModel     = 2
	exitMemory    = 3
	exitDevice    = 4
	exitCancelled = 130
)

type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"generate", "make pictures from a prompt", generate},
	{"plan", "show where weights would live, and how long a step would take", planCommand},
	{"inspect", "show what a model consists of", inspect},
	{"doctor", "show what this machine can do", doctor},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C ends the run within one operation; a second one ends the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with everything it touches as arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:], stdout, stderr)
		if err != nil && !errors.Is(err, flag.ErrHelp) && !errors.As(err, new(flagError)) {
			fmt.Fprintln(stderr, "euryale:", message(err))
		}
		return exitCode(err)
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return 0
	}
	fmt.Fprintf(stderr, "euryale: unknown command %q\n", args[0])
	usage(stderr)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: euryale <command> [flags]\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\n\"euryale <command> -h\" shows a command's flags.\n")
}

func message(err error) string {
	var p *graphs.PanicError
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &p):
		return fmt.Sprintf("%v\nThis is a bug in Euryale; please report it with what follows.\n%s", err, p.Stack)
	}
	return err.Error()
}

func exitCode(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, context.Canceled):
		return exitCancelled
	case errors.As(err, new(*graphs.MemoryError)), errors.As(err, new(*graphs.DeviceMemoryError)), errors.As(err, new(*offload.BudgetError)), errors.As(err, new(*offload.HostError)):
		return exitMemory
	case errors.As(err, new(*graphs.DeviceError)), errors.Is(err, graphs.ErrDeviceLost):
		return exitDevice
	case errors.As(err, new(*loader.Error)), errors.Is(err, graphs.ErrNonFinite):
		return exitModel
	}
	return exitUsage
}

// flagError is a wrong flag that package flag has already reported.
type flagError struct{ error }

// parse reads flags and refuses what is left over.
func parse(fs *flag.FlagSet, args []string, stderr io.Writer) error {
	fs.SetOutput(stderr)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return flagError{err}
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%s does not take the argument %q; flags begin with a dash", fs.Name(), fs.Arg(0))
	}
	return nil
}

// open opens a model folder, or the embedded model.
func open(path string) (*loader.Model, error) {
	if path == "" {
		return loader.Tiny()
	}
	return loader.Open(path)
}
