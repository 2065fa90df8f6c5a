package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/cuda"
	"github.com/euryale-ml/euryale/internal/outfile"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/profile"
)

// efficiency is the share of the multiply-add peak that whole networks reach on the CPU; bench/README.md has it.
const efficiency = 0.75

// hostProfile measures this machine as a device, once: the result is kept in the user's cache.
func hostProfile() (offload.Profile, error) {
	pool := cpu.NewPool(0)
	defer pool.Close()
	name := fmt.Sprintf("host-%s-%s-%d", runtime.GOARCH, pool.Kernels(), pool.Threads())
	return measuredOnce(name, func() (offload.Profile, error) {
		rate := copyRate()
		return offload.Profile{Name: name, FLOPs: efficiency * 1e9 * pool.PeakFMA(), Memory: 2 * rate, Link: rate, Launch: 2 * time.Microsecond,
			Latency: 2 * time.Microsecond}, nil
	})
}

// cudaProfile measures a CUDA device of this machine, once. Within vram bytes, if that is not 0, there may be no room for
// that, nor on the device itself: it is then planned for as if it were another, and a warning says so.
func cudaProfile(d graphs.DeviceOption, vram int) (offload.Profile, error) {
	ordinal, err := strconv.Atoi(strings.TrimPrefix(d.Name, "cuda:"))
	if err != nil {
		return offload.Profile{}, fmt.Errorf("-profile %s: want cuda:0 or the like", d.Name)
	}
	gpu, err := cuda.Name(ordinal)
	if err != nil {
		return offload.Profile{}, &graphs.DeviceError{Name: d.Name, Err: err}
	}
	name := strings.Map(func(r rune) rune {
		if r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToLower(r)
		}
		return '-'
	}, gpu) + "-" + cmp.Or(d.DType, "f16")
	// Its link is the machine's, and of the place the GPU is in.
	host, _ := os.Hostname()
	name = fmt.Sprintf("%s-%s-%d", name, host, ordinal)
	if os.Getenv("EURYALE_HOPPER") == "1" {
		name += "-hopper"
	}
	p, err := measuredOnce(name, func() (offload.Profile, error) {
		const takes = 256 << 20 // of profile.Measure
		if vram > 0 && vram < takes {
			return offload.Profile{}, &graphs.DeviceMemoryError{Need: takes, Free: vram}
		}
		return profile.Measure(d)
	})
	if errors.As(err, new(*graphs.DeviceMemoryError)) {
		slog.Warn("there is no room to measure the device; what is fastest is planned as for "+anyProfile+", or what -profile names", "device", d.Name)
		return offload.ProfileByName(anyProfile)
	}
	return p, err
}

// anyProfile is what is planned for where nothing is known.
const anyProfile = "rtx4090-gen4"

// measuredOnce is the profile that the user's cache has under a name, or what measure returns, which it then has.
func measuredOnce(name string, measure func() (offload.Profile, error)) (offload.Profile, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	file := filepath.Join(dir, "euryale", name+".json")
	var p offload.Profile
	if raw, err := os.ReadFile(file); err == nil && json.Unmarshal(raw, &p) == nil && p.FLOPs > 0 && p.Memory > 0 && p.Link > 0 {
		return p, nil
	}
	if p, err = measure(); err != nil {
		return p, err
	}
	err = os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = outfile.WriteFile(file, func(w io.Writer) error { return indented(w, p) })
	}
	if err != nil {
		slog.Warn("what was measured is not kept, and will be measured again", "error", err)
	}
	return p, nil
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
