//go:build unix

package outfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptor is the number of a descriptor of this process that a path means.
func descriptor(path string) (fd int, ok bool) {
	dir := filepath.Dir(path)
	pid, ok := magic(dir)
	if dir != "/dev/fd" && !(ok && (pid == "self" || pid == strconv.Itoa(os.Getpid()))) {
		return 0, false
	}
	fd, err := strconv.Atoi(filepath.Base(path))
	return fd, err == nil && fd >= 0
}

// ofOther reports that a path means a descriptor of another process.
func ofOther(path string) bool {
	_, ok := magic(filepath.Dir(path))
	return ok
}

// duplicate is a descriptor of this process as a file, which may be closed.
func duplicate(fd int) (*os.File, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), fmt.Sprintf("descriptor %d", fd)), nil
}

// canWrite reports an error for a descriptor that is open for reading alone.
func canWrite(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY {
		err = errors.New("it is open for reading alone")
	}
	return err
}

// likeThat gives a file the mode of another and, where that is allowed, its owner.
func likeThat(f *os.File, that fs.FileInfo) error {
	if st, ok := that.Sys().(*syscall.Stat_t); ok {
		f.Chown(int(st.Uid), int(st.Gid)) // as root; who else writes the file owns it, or it becomes theirs
	}
	return f.Chmod(that.Mode().Perm())
}
