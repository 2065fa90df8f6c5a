package hostile

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Watch counts how often something in a folder is opened, until count is called.
func Watch(dir string) (count func() (int, error), err error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return func() (n int, err error) {
		defer func() { err = errors.Join(err, unix.Close(fd)) }()
		buf := make([]byte, 1<<16)
		for {
			k, err := unix.Read(fd, buf)
			switch {
			case err == unix.EAGAIN:
				return n, nil
			case err != nil:
				return n, err
			}
			n += k / unix.SizeofInotifyEvent // at least: a name makes an event longer
		}
	}, nil
}
