package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/cuda"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/sysmem"
	xcpu "golang.org/x/sys/cpu"
)

func doctor(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("euryale doctor", flag.ContinueOnError)
	threads := fs.Int("threads", 0, "`threads`; default: one per core")
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	if *threads < 0 {
		return fmt.Errorf("-threads is %d, want 1 or more", *threads)
	}
	p := cpu.NewPool(*threads)
	defer p.Close()
	show := func(what, format string, a ...any) {
		fmt.Fprintf(stdout, "%-14s %s\n", what, fmt.Sprintf(format, a...))
	}
	show("go", "%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	show("threads", "%d", p.Threads())
	show("cpu features", "%s", features())
	show("kernels", "%s", p.Kernels())
	if free, ok := sysmem.Available(); ok {
		show("memory", "%d MiB free", free>>20)
	} else {
		show("memory", "not known on this system")
	}
	peak := p.PeakFMA()
	show("fma peak", "%.1f GFLOP/s", peak)
	sgemm := measureSgemm(p) / 1e9
	show("sgemm", "%.1f GFLOP/s, %.2f of the peak", sgemm, sgemm/peak)
	for _, d := range cuda.Devices() {
		show("device", "%s", d)
	}
	return nil
}

func features() string {
	if runtime.GOARCH != "amd64" {
		return "not asked on " + runtime.GOARCH
	}
	var have []string
	for _, f := range []struct {
		name string
		has  bool
	}{{"avx2", xcpu.X86.HasAVX2}, {"fma", xcpu.X86.HasFMA}, {"avx512f", xcpu.X86.HasAVX512F}} {
		if f.has {
			have = append(have, f.name)
		}
	}
	return strings.Join(have, " ")
}

// measureSgemm times the product of the shape that SD 1.5's widest attention has at 512x512.
func measureSgemm(p *cpu.Pool) float64 {
	const m, n, k = 4096, 320, 320
	w := make([]byte, cpu.PanelBytes(n, k, dtype.F32))
	x, y := make([]float32, m*k), make([]float32, m*n)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	panels := cpu.Panels{Data: w, DType: dtype.F32, N: n, K: k}
	best := time.Duration(1 << 62)
	for range 5 {
		start := time.Now()
		p.Linear(y, x, m, panels, cpu.Epilogue{})
		best = min(best, time.Since(start))
	}
	return 2 * m * n * k / best.Seconds()
}
