package main

import (
	"context"
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

// machine is what doctor finds out.
type machine struct {
	Go       string   `json:"go"`
	System   string   `json:"system"`
	Threads  int      `json:"threads"`
	Features []string `json:"cpu_features"`
	Kernels  string   `json:"kernels"`
	Free     *int64   `json:"free_memory_bytes"` // nil where it is not known
	FMA      float64  `json:"fma_peak_gflops"`
	SGEMM    float64  `json:"sgemm_gflops"`
	Devices  []string `json:"devices"`
}

func defineDoctor(fs *flagSet) runner {
	var threads int
	var asJSON bool
	fs.topic("Flags")
	fs.whole(&threads, "threads", 1, cpu.MaxThreads, "`threads`; default: one per core")
	fs.yes(&asJSON, "json", "print JSON")
	return abandon(func(_ context.Context, stdout, _ io.Writer) error {
		m := examine(threads)
		if asJSON {
			return indented(stdout, m)
		}
		m.print(stdout)
		return nil
	})
}

func examine(threads int) *machine {
	p := cpu.NewPool(threads)
	defer p.Close()
	m := &machine{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Threads: p.Threads(),
		Features: features(), Kernels: p.Kernels(),
		FMA: p.PeakFMA(), SGEMM: measureSgemm(p) / 1e9, Devices: []string{}}
	if free, ok := sysmem.Available(); ok {
		m.Free = &free
	}
	for _, d := range cuda.Devices() {
		m.Devices = append(m.Devices, fmt.Sprint(d))
	}
	return m
}

func (m *machine) print(w io.Writer) {
	show := func(what, format string, a ...any) {
		fmt.Fprintf(w, "%-14s %s\n", what, fmt.Sprintf(format, a...))
	}
	show("go", "%s %s", m.Go, m.System)
	show("threads", "%d", m.Threads)
	show("cpu features", "%s", strings.Join(m.Features, " "))
	show("kernels", "%s", m.Kernels)
	if m.Free != nil {
		show("memory", "%d MiB free", *m.Free>>20)
	} else {
		show("memory", "not known on this system")
	}
	show("fma peak", "%.1f GFLOP/s", m.FMA)
	show("sgemm", "%.1f GFLOP/s, %.2f of the peak", m.SGEMM, m.SGEMM/m.FMA)
	for _, d := range m.Devices {
		show("device", "%s", d)
	}
}

// features are those of the processor that kernels ask for.
func features() []string {
	have := []string{}
	for _, f := range []struct {
		name string
		has  bool
	}{{"avx2", xcpu.X86.HasAVX2}, {"fma", xcpu.X86.HasFMA}, {"avx512f", xcpu.X86.HasAVX512F}} {
		if f.has {
			have = append(have, f.name)
		}
	}
	return have
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
