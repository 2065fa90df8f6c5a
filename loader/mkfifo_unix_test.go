//go:build unix

package loader

import "syscall"

func mkfifo(at string) error { return syscall.Mkfifo(at, 0o666) }
