// Package outfile writes what a command makes: files that appear when they are complete, and streams and devices as they
// are.
package outfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/euryale-ml/euryale/internal/panics"
)

// Note [Outputs]
//
// A regular file gets its name when it is complete, so that nobody sees half of it, however the process ends. Links are
// followed: the file that a link leads to is replaced, in its own folder, and the link stays. An existing file keeps its
// mode, a new one has what the umask leaves of 0666. What is no regular file is written as it is: devices, pipes, and
// the descriptors of this process under any of their names, /dev/stdout for one, also when they are regular files,
// since others write to them, too.

// Kind is how an output is written.
type Kind int

const (
	Regular Kind = iota // a file, which is replaced when the new one is complete
	Device              // takes any number of outputs
	Stream              // takes one
)

// Error is a file or a stream that could not be read or written.
type Error struct {
	Problem string // "cannot write out.png"
	Err     error
}

func (e *Error) Error() string { return e.Problem + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Output is something that a run writes to.
type Output struct {
	flag, Name string // as they were given
	Kind       Kind
	path       string      // with links followed; of a descriptor of this process the last one
	fd         int         // that descriptor, or -1
	std        io.Writer   // standard output, for the name "-"
	there      fs.FileInfo // nil for a file that is yet to be made
	inPlace    bool        // a file that can be written but not replaced: it is a mount point, or its folder is read-only
}

// Outputs are those of a run. No two may be one file.
type Outputs struct {
	Stdout io.Writer // for the name "-"; one with a method File() *os.File is compared with the other outputs
	all    []*Output
}

// Add finds out where an output goes and whether it can be written.
func (o *Outputs) Add(flag, name string) (*Output, error) {
	out, err := o.find(flag, name)
	if err == nil {
		err = out.check()
	}
	if err != nil {
		return nil, &Error{"cannot write " + name, err}
	}
	for _, other := range o.all {
		if out.same(other) {
			return nil, fmt.Errorf("%s %s and %s %s are one file", other.flag, other.Name, flag, name)
		}
	}
	o.all = append(o.all, out)
	return out, nil
}

// Claim keeps outputs from what something else reads or writes.
func (o *Outputs) Claim(flag, name string) {
	if name == "" {
		return
	}
	if out, err := o.find(flag, name); err == nil {
		o.all = append(o.all, out)
	}
}

// Write writes the output of a flag.
func (o *Outputs) Write(ctx context.Context, flag string, fill func(io.Writer) error) error {
	for _, out := range o.all {
		if out.flag == flag {
			return out.Write(ctx, fill)
		}
	}
	panic("no output was added for " + flag)
}

func (o *Outputs) find(flag, name string) (*Output, error) {
	out := &Output{flag: flag, Name: name, fd: -1}
	if name == "-" {
		out.Kind, out.fd, out.std = Stream, 1, o.Stdout
		if s, ok := o.Stdout.(interface{ File() *os.File }); ok && s.File() != nil {
			out.there, _ = s.File().Stat()
		}
		return out, nil
	}
	if err := out.follow(name); err != nil {
		return nil, err
	}
	if out.fd >= 0 {
		f, err := duplicate(out.fd)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		out.Kind = Stream
		out.there, err = f.Stat()
		return out, err
	}
	st, err := os.Stat(out.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return out, nil
	case err != nil:
		return nil, Bare(err)
	case st.IsDir():
		return nil, errors.New("it is a folder")
	case st.Mode().IsRegular() && out.Kind == Regular:
	case st.Mode()&fs.ModeDevice != 0:
		out.Kind = Device
	default:
		out.Kind = Stream
	}
	out.there = st
	return out, nil
}

// follow finds the path that a name leads to, whose last element may not exist, or the descriptor that it means.
func (o *Output) follow(name string) error {
	const most = 40 // links, as Linux has it
	for range most {
		dir, base := filepath.Split(name)
		if base == "" || base == "." || base == ".." {
			return errors.New("it is a folder")
		}
		if dir == "" {
			dir = "."
		}
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return fmt.Errorf("folder %s: %w", filepath.Dir(name), Bare(err))
		}
		o.path = filepath.Join(dir, base)
		if fd, own := descriptor(o.path); own {
			o.fd = fd
			return nil
		}
		if ofOther(o.path) { // a link in name alone, to what another process has open
			o.Kind = Stream
			return nil
		}
		st, err := os.Lstat(o.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode()&fs.ModeSymlink == 0 {
			return nil
		}
		if err != nil {
			return Bare(err)
		}
		if name, err = os.Readlink(o.path); err != nil {
			return Bare(err)
		}
		if !filepath.IsAbs(name) {
			name = dir + string(filepath.Separator) + name // not joined, which would take ".." for what it is not
		}
	}
	return errors.New("too many links")
}

// Bare is an error without the path, which is in the message already.
func Bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// check finds out early, before minutes of work, whether an output can be written.
func (o *Output) check() error {
	switch {
	case o.std != nil:
		return nil
	case o.fd >= 0:
		return canWrite(o.fd)
	case o.Kind != Regular:
		return nil // opening a pipe waits for who reads it
	}
	if o.there != nil {
		f, err := os.OpenFile(o.path, os.O_WRONLY, 0)
		if err != nil {
			return Bare(err)
		}
		f.Close()
	}
	dir := filepath.Dir(o.path)
	t, err := newTemporary(dir)
	switch {
	case err != nil && o.there == nil:
		return Bare(err)
	case err != nil:
		o.inPlace = true
		return nil
	}
	sweep(dir)
	return t.drop()
}

// same reports that two outputs would end up in one file.
func (o *Output) same(p *Output) bool {
	switch {
	case o.fd >= 0 && o.fd == p.fd:
		return true
	case o.there != nil && p.there != nil:
		// A device, such as a terminal or /dev/null, takes what several write to it.
		return o.there.Mode()&fs.ModeDevice == 0 && os.SameFile(o.there, p.there)
	}
	return o.Kind == Regular && p.Kind == Regular && o.path == p.path
}

// Write writes an output. It ends with ctx, also while it waits for who reads a pipe.
func (o *Output) Write(ctx context.Context, fill func(io.Writer) error) error {
	done := make(chan error, 1)
	go func() { done <- o.recovered(fill) }()
	if o.Kind != Regular {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-done:
			return o.failed(err)
		}
	}
	return o.failed(<-done)
}

func (o *Output) recovered(fill func(io.Writer) error) (err error) {
	defer panics.Recovered(&err)
	return o.fill(fill)
}

func (o *Output) failed(err error) error {
	if err == nil || errors.As(err, new(*Error)) || errors.As(err, new(*panics.Error)) {
		return err
	}
	return &Error{"cannot write " + o.Name, Bare(err)}
}

func (o *Output) fill(fill func(io.Writer) error) error {
	switch {
	case o.std != nil:
		return fill(o.std)
	case o.fd >= 0:
		f, err := duplicate(o.fd)
		if err != nil {
			return err
		}
		return errors.Join(fill(f), f.Close())
	case o.Kind != Regular:
		return o.overwrite(0, fill)
	case !o.inPlace:
		if err := o.replace(fill); err == nil || !errors.As(err, new(*namingError)) || o.there == nil {
			return err
		}
	}
	return o.overwrite(os.O_TRUNC, fill)
}

func (o *Output) overwrite(flags int, fill func(io.Writer) error) error {
	f, err := os.OpenFile(o.path, os.O_WRONLY|flags, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// replace writes a file and gives it its name when it is complete.
func (o *Output) replace(fill func(io.Writer) error) (err error) {
	t, err := newTemporary(filepath.Dir(o.path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.drop()) }()
	if err := fill(t); err != nil {
		return err
	}
	if o.there != nil {
		if err := likeThat(t.File, o.there); err != nil {
			return err
		}
	}
	return t.name(o.path)
}

// WriteFile writes one file.
func WriteFile(file string, fill func(io.Writer) error) error {
	var o Outputs
	out, err := o.Add("", file)
	if err != nil {
		return err
	}
	return out.Write(context.Background(), fill)
}

// magic is a folder in which the system keeps what a process has open.
func magic(dir string) (pid string, ok bool) {
	rest, ok := strings.CutPrefix(filepath.ToSlash(dir), "/proc/")
	if !ok {
		return "", false
	}
	parts := strings.Split(rest, "/") // N/fd or N/task/N/fd
	if len(parts) == 4 && parts[1] == "task" {
		parts = append(parts[:1], parts[3])
	}
	return parts[0], len(parts) == 2 && parts[1] == "fd"
}
