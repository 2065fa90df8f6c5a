//go:build unix

package hostile

import "syscall"

// Mkfifo makes a pipe.
func Mkfifo(at string) error { return syscall.Mkfifo(at, 0o666) }
