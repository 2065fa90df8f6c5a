package main

import "golang.org/x/sys/unix"

// peakRSS is the most memory the process has used.
func peakRSS() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Maxrss << 10
}
