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
			free = min(free, version2.free(root, f[2]))
		case strings.Contains(","+f[1]+",", ",memory,"):
			free = min(free, version1.free(root, f[2]))
		}
	}
	return free, free < math.MaxInt64
}

// controller is where a version of control groups keeps what it says of memory.
type controller struct {
	mount  string
	limits []string // files; the tightest counts
	usage  string   // file
	// cache are the keys of memory.stat for what the kernel takes back when a group comes near its limit: files that were
	// read, whether recently or not, and its own caches.
	cache []string
	// inherited is the key of memory.stat for the tightest limit of the parents, which a container may not see.
	inherited string
}

var (
	version2 = controller{"sys/fs/cgroup", []string{"memory.max", "memory.high"}, "memory.current",
		[]string{"active_file", "inactive_file", "slab_reclaimable"}, ""}
	version1 = controller{"sys/fs/cgroup/memory", []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes",
		[]string{"total_active_file", "total_inactive_file", "total_slab_reclaimable"}, "hierarchical_memory_limit"}
)

// noLimit is the least number that stands for no limit: version 1 says so with the largest multiple of a page that an
// int64 holds, 9223372036854771712 with pages of 4 KiB.
const noLimit = 1 << 62

// free is how much the tightest of a control group and its parents leaves.
func (c *controller) free(root, path string) int64 {
	free := int64(math.MaxInt64)
	for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
		at := filepath.Join(root, c.mount, dir)
		stat := statOf(filepath.Join(at, "memory.stat"))
		most := int64(noLimit)
		for _, file := range c.limits {
			if n, ok := number(filepath.Join(at, file)); ok {
				most = min(most, n)
			}
		}
		if n, ok := stat[c.inherited]; ok {
			most = min(most, n)
		}
		if used, ok := number(filepath.Join(at, c.usage)); ok && most < noLimit {
			cached := int64(0)
			for _, key := range c.cache {
				cached += stat[key]
			}
			// The parts are read at different moments: a cache that is larger than the usage is one that grew since.
			free = min(free, max(0, most-max(0, used-cached)))
		}
		if dir == "/" {
			return free
		}
	}
}

// number is the number that a file holds. Where it holds none, such as "max", there is no limit.
func number(file string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil && n >= 0
}

// statOf is what a memory.stat holds. Numbers that stand for no limit are left out, so that sums do not overflow.
func statOf(file string) map[string]int64 {
	raw, _ := os.ReadFile(file)
	stat := map[string]int64{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil && n >= 0 && n < noLimit/4 {
			stat[f[0]] = n
		}
	}
	return stat
}
