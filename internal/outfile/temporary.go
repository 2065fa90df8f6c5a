package outfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// temporary is a file that is being written. Where the system has files without names it is one, which goes with its
// process, however that ends; elsewhere it has a name of its own.
type temporary struct {
	*os.File
	own string // its name, if it has one
}

const temporaryPrefix = ".euryale-"

// ownName is a name that no other process takes.
func ownName(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d-%d", temporaryPrefix, os.Getpid(), time.Now().UnixNano()))
}

func newTemporary(dir string) (*temporary, error) {
	if f, err := unnamed(dir); err == nil {
		return &temporary{File: f}, nil
	}
	// Not os.CreateTemp, whose files nobody else may read: the umask is to decide.
	name := ownName(dir)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	return &temporary{f, name}, nil
}

// namingError is a complete file that could not get its name.
type namingError struct{ error }

func (e *namingError) Unwrap() error { return e.error }

// name gives the file its name, in place of what had it.
func (t *temporary) name(file string) error {
	if t.own == "" {
		err := link(t.File, file)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Only a rename replaces a file, and it needs a name to begin with.
		own := ownName(filepath.Dir(file))
		if err := link(t.File, own); err != nil {
			return err
		}
		t.own = own
	}
	if err := t.Close(); err != nil {
		return err
	}
	if err := os.Rename(t.own, file); err != nil {
		return &namingError{err}
	}
	t.own = ""
	return nil
}

// drop ends the writing. Nothing is left but what was named.
func (t *temporary) drop() (err error) {
	if err = t.Close(); errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if t.own != "" {
		err = errors.Join(err, os.Remove(t.own))
	}
	return err
}

// sweep removes what processes that were killed have left in a folder: files named after a process that is gone, and
// others when they are an hour old, since writing takes less.
func sweep(dir string) {
	left, _ := os.ReadDir(dir)
	for _, e := range left {
		rest, ours := strings.CutPrefix(e.Name(), temporaryPrefix)
		if !ours {
			continue
		}
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() {
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
