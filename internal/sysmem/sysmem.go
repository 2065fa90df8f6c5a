// Package sysmem says how much memory this process may still take.
package sysmem

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Available is the number of bytes that can be allocated before the kernel's limit, the control group's or the process's own,
// and false where that is not known. Page cache counts as free.
func Available() (int64, bool) {
	free, known := available("/")
	if left, ok := Limit(); ok {
		return min(free, left), true
	}
	return free, known
}

func available(root string) (int64, bool) {
	free := int64(math.MaxInt64)
	meminfo, _ := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	for line := range bytes.Lines(meminfo) {
		f := bytes.Fields(line)
		if len(f) >= 2 && string(f[0]) == "MemAvailable:" {
			if kib, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
				free = kib << 10
			}
		}
	}
	groups, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	for line := range strings.Lines(string(groups)) {
		// "0::/path" in version 2; "4:memory:/path" in version 1. A container sees its own group at the top.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case f[0] == "0":
			free = min(free, group(root, "sys/fs/cgroup", f[2], "memory.max", "memory.current", "inactive_file"))
		case strings.Contains(","+f[1]+",", ",memory,"):
			free = min(free, group(root, "sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
		}
	}
	return free, free < math.MaxInt64
}

// group is what the tightest of a control group and its parents leaves.
func group(root, mount, path, limit, usage, cache string) int64 {
	free := int64(math.MaxInt64)
	for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
		at := filepath.Join(root, mount, dir)
		most, ok1 := number(filepath.Join(at, limit))
		used, ok2 := number(filepath.Join(at, usage))
		if ok1 && ok2 {
			free = min(free, max(0, most-used+stat(filepath.Join(at, "memory.stat"), cache)))
		}
		if dir == "/" {
			return free
		}
	}
}

func number(file string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}

func stat(file, key string) int64 {
	raw, _ := os.ReadFile(file)
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}
