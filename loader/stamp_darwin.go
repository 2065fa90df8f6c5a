package loader

import (
	"io/fs"
	"syscall"
)

// stampOf reads the stamp of a file.
func stampOf(st fs.FileInfo) stamp {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}
	}
	return stamp{s.Ctimespec.Sec, s.Ctimespec.Nsec, uint64(s.Nlink)}
}
