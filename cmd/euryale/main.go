// Command euryale makes pictures from prompts with diffusion models in the Hugging Face diffusers layout, and
// looks into such models.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/loader"
)

// command is a verb of the command line.
type command struct {
	name, summary string
	// define registers the command's flags; what it returns runs the command when they are set.
	define func(*flagSet) runner
}

type runner func(ctx context.Context, stdout, stderr io.Writer) error

// abandon has a runner end with its context although it does not look at it. The process ends then, too.
func abandon(run runner) runner {
	return func(ctx context.Context, stdout, stderr io.Writer) error {
		done := make(chan error, 1)
		go func() { done <- safely(func() error { return run(ctx, stdout, stderr) }) }()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-done:
			return err
		}
	}
}

func commands() []command {
	return []command{
		{"generate", "make pictures from a prompt", defineGenerate},
		{"plan", "show where weights would live, and how long a step would take", definePlan},
		{"inspect", "show what a model consists of", defineInspect},
		{"doctor", "show what this machine can do", defineDoctor},
		{"version", "show which version this is", defineVersion},
		{"completion", "print a script that completes commands and flags in a shell", defineCompletion},
	}
}

func main() {
	ends := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) { // as under nohup, and in the background of a script
		ends = append(ends, os.Interrupt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	// The first Ctrl-C ends the run within one operation; a second one ends the process.
	context.AfterFunc(ctx, stop)
	// Writing to a pipe that nobody reads any more is then an error, and progress that nobody reads costs no picture.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with everything it touches as arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &sink{w: stdout}
	err := safely(func() error { return dispatch(ctx, args, out, stderr) })
	if err == nil {
		err = out.err
	}
	if err != nil {
		fmt.Fprintln(stderr, "euryale:", message(err))
	}
	return exitCode(err)
}

// safely calls f and makes an error of a panic.
func safely(f func() error) (err error) {
	defer panics.Recovered(&err)
	return f()
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		usage(stderr)
		return errors.New("no command is given")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			usage(stdout)
			return nil
		}
		args = []string{args[1], "-h"}
	case "-version", "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			fs := newFlagSet(c.name)
			begin := c.define(fs)
			if help, err := fs.parse(args[1:]); err != nil {
				return err
			} else if help {
				fs.help(stdout, c.summary)
				return nil
			}
			return begin(ctx, stdout, stderr)
		}
	}
	return unknownCommand(args[0])
}

func unknownCommand(name string) error {
	if strings.HasPrefix(name, "-") {
		return fmt.Errorf("%s comes before a command; a command comes first: euryale generate %s", name, name)
	}
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("unknown command %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("unknown command %q; the commands are %s", name, strings.Join(names, ", "))
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: euryale <command> [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\n\"euryale <command> -h\" shows a command's flags.\n")
}

// modelFlags say which model is opened, and how.
type modelFlags struct{ folder, variant, linksInto string }

func (f *modelFlags) register(fs *flagSet) {
	fs.text(&f.folder, "m", "", "model `folder` in the diffusers layout; default: the embedded model", anyFolder)
	fs.text(&f.variant, "variant", "", "`variant` of the weights that is preferred: fp16, bf16, non_ema, ...")
	fs.text(&f.linksInto, "links-into", "", "`folder` that links of the model's folder may lead into, too", anyFolder)
}

// open opens the folder, or the embedded model.
func (f *modelFlags) open() (*loader.Model, error) {
	var opts []loader.Option
	if f.variant != "" {
		opts = append(opts, loader.WithVariant(f.variant))
	}
	if f.linksInto != "" {
		opts = append(opts, loader.WithLinksInto(f.linksInto))
	}
	switch {
	case f.folder != "":
		return loader.Open(f.folder, opts...)
	case len(opts) > 0:
		return nil, errors.New("-variant and -links-into are for a model folder: -m names one")
	}
	return loader.Tiny()
}
