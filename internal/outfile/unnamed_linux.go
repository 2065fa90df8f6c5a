package outfile

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// unnamed opens a file without a name in a folder, if its file system has such files.
func unnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	if _, err := os.Stat(procFile(f)); err != nil { // it could not be given a name
		f.Close()
		return nil, err
	}
	return f, nil
}

// link gives such a file a name that no other has.
func link(f *os.File, name string) error {
	err := unix.Linkat(unix.AT_FDCWD, procFile(f), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: f.Name(), New: name, Err: err}
	}
	return nil
}

func procFile(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
