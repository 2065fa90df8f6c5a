package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/offload"
)

// efficiency is the share of the multiply-add peak that whole networks reach on the CPU; bench/README.md has it.
const efficiency = 0.75

// hostProfile measures this machine as a device, once: the result is kept in the user's cache.
func hostProfile() (offload.Profile, error) {
	pool := cpu.NewPool(0)
	defer pool.Close()
	name := fmt.Sprintf("host-%s-%s-%d", runtime.GOARCH, pool.Kernels(), pool.Threads())
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	file := filepath.Join(dir, "euryale", name+".json")
	var p offload.Profile
	if raw, err := os.ReadFile(file); err == nil && json.Unmarshal(raw, &p) == nil && p.FLOPs > 0 && p.Memory > 0 && p.Link > 0 {
		return p, nil
	}
	rate := copyRate()
	p = offload.Profile{Name: name, FLOPs: efficiency * 1e9 * pool.PeakFMA(), Memory: 2 * rate, Link: rate, Launch: 2 * time.Microsecond, Latency: 2 * time.Microsecond}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return p, nil // it is measured again next time
	}
	return p, replace(file, func(w io.Writer) error { return indented(w, p) })
}

// copyRate is the bytes per second of the best of five copies from memory to memory, each larger than a cache.
func copyRate() float64 {
	dst, src := make([]byte, 128<<20), make([]byte, 128<<20)
	best := 0.0
	for range 5 {
		begin := time.Now()
		n := copy(dst, src)
		best = max(best, float64(n)/time.Since(begin).Seconds())
	}
	return best
}
