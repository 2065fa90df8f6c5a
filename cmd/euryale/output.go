package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// writable finds out early, before minutes of work, whether a file can be written.
func writable(file string) error {
	if file == "" {
		return nil
	}
	st, err := os.Stat(file)
	switch {
	case err == nil && st.IsDir():
		return fmt.Errorf("%s is a folder", file)
	case err == nil && !st.Mode().IsRegular():
		return nil // a device or a pipe is written to as it is
	}
	t, err := newOutput(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	sweep(filepath.Dir(file))
	return t.drop()
}

// replace writes a file and gives it its name when it is complete, so that nobody sees half of it.
// What is there and no regular file, /dev/null say, stays what it is and is written to.
func replace(file string, fill func(io.Writer) error) (err error) {
	if st, err := os.Stat(file); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(fill(f), f.Close())
	}
	t, err := newOutput(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.drop()) }()
	if err := fill(t); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := t.Chmod(0o644); err != nil {
		return err
	}
	return t.name(file)
}

// output is a file that is being written. Where the system has files without names it is one, which goes with its
// process, however that ends; elsewhere it has a name of its own.
type output struct {
	*os.File
	temporary string // its name, if it has one
}

const temporaryPrefix = ".euryale-"

func newOutput(dir string) (*output, error) {
	if f, err := unnamed(dir); err == nil {
		return &output{File: f}, nil
	}
	f, err := os.CreateTemp(dir, fmt.Sprintf("%s%d-*", temporaryPrefix, os.Getpid()))
	if err != nil {
		return nil, err
	}
	return &output{f, f.Name()}, nil
}

// name gives the file its name, in place of what had it.
func (o *output) name(file string) error {
	if o.temporary == "" {
		err := link(o.File, file)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Only a rename replaces a file, and it needs a name to begin with.
		temporary := filepath.Join(filepath.Dir(file), fmt.Sprintf("%s%d-%d", temporaryPrefix, os.Getpid(), time.Now().UnixNano()))
		if err := link(o.File, temporary); err != nil {
			return err
		}
		o.temporary = temporary
	}
	if err := o.Close(); err != nil {
		return err
	}
	if err := os.Rename(o.temporary, file); err != nil {
		return err
	}
	o.temporary = ""
	return nil
}

// drop ends the writing. Nothing is left but what was named.
func (o *output) drop() (err error) {
	if err = o.Close(); errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if o.temporary != "" {
		err = errors.Join(err, os.Remove(o.temporary))
	}
	return err
}

// sweep removes what processes that were killed have left in a folder: files named after a process that is gone, and
// others when they are an hour old, since writing takes less.
func sweep(dir string) {
	left, _ := os.ReadDir(dir)
	for _, e := range left {
		rest, ours := strings.CutPrefix(e.Name(), temporaryPrefix)
		st, err := e.Info()
		if !ours || err != nil || !st.Mode().IsRegular() {
			continue
		}
		pid, _, _ := strings.Cut(rest, "-")
		if n, err := strconv.Atoi(pid); err == nil && gone(n) || time.Since(st.ModTime()) > time.Hour {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// gone reports that no process of that number is there.
func gone(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return true
	}
	defer p.Release()
	return errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
