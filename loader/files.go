package loader

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/euryale-ml/euryale/internal/stack"
)

// file is an open regular file.
type file interface {
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

// diskFile is a file as it was when it was opened.
type diskFile struct {
	file
	size     int64
	modified time.Time
	stamp    stamp
}

// stamp is what some systems note of a file beside its size and the time of modification, which any program can
// set: when anything of it was last changed, and how many names it has.
type stamp struct {
	sec, nsec int64
	links     uint64
}

// moved reports that a file was changed since the stamp: to another time, and not because of a name it got or lost.
func (s stamp) moved(now stamp) bool { return s != now && s.links == now.links }

// ErrChanged is the cause of an error about a file that was written to, cut or appended to since it was opened.
// A file replaced by another of its name is not: the one that is open stays.
var ErrChanged = errors.New("the file has changed since it was opened")

// changed returns ErrChanged if size, time of modification or stamp are no longer those the file was opened with.
// Writes may come closer together than the clock of a file system ticks; those it cannot see.
func (f diskFile) changed() error {
	st, err := f.Stat()
	if err == nil && (st.Size() != f.size || !st.ModTime().Equal(f.modified) || f.stamp.moved(stampOf(st))) {
		err = ErrChanged
	}
	return err
}

// openFile opens a regular file. Everything else is refused before it is opened: reading a pipe or a device
// may never end.
func openFile(fsys fs.FS, name string) (diskFile, error) {
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return diskFile{}, openError(name, err)
	}
	if !st.Mode().IsRegular() {
		return diskFile{}, stack.With(&Error{File: name, Got: describe(st.Mode()), Want: "a regular file"})
	}
	f, err := fsys.Open(name)
	if err != nil {
		return diskFile{}, openError(name, err)
	}
	// It may have been replaced in between.
	if st, err = f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return diskFile{}, stack.With(&Error{File: name, Got: "changed while it was opened", Err: err})
	}
	at, ok := f.(file)
	if !ok {
		f.Close()
		return diskFile{}, stack.With(fmt.Errorf("%s: files of type %T have no ReadAt", name, f))
	}
	return diskFile{at, st.Size(), st.ModTime(), stampOf(st)}, nil
}

func openError(name string, err error) error {
	var link *linkError
	switch {
	case errors.As(err, &link):
		return stack.With(&Error{File: name, Got: "cannot be opened", Err: link})
	case errors.Is(err, fs.ErrNotExist):
		return stack.With(&Error{File: name, Got: "missing", Err: fs.ErrNotExist})
	}
	return stack.With(&Error{File: name, Got: "cannot be opened", Err: err})
}

func describe(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "not a regular file"
}
