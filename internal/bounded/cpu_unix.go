//go:build unix

package bounded

import (
	"syscall"
	"time"
)

// CPU is the processor time that the process has taken so far, in all of its threads.
func CPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
