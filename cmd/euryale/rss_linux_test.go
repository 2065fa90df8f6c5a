package main

import (
	"os"
	"runtime/debug"
	"syscall"
)

// forgetRSS begins to count this process's most memory anew. A child begins with that of its parent: Linux counts the
// memory that it had before exec as its own.
func forgetRSS() error {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5\n"), 0)
}

// rssOf is the most memory that a process which has ended used.
func rssOf(p *os.ProcessState) int64 {
	u, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return int64(u.Maxrss) << 10
}
