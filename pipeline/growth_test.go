package pipeline_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// use is what a process holds.
type use struct {
	buffers, heap, rss int64
	goroutines         int
	threads, files     int // 0 where they are not known
}

func useNow(m *graphs.HostMemory) use {
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	u := use{buffers: m.Used(), heap: int64(stats.HeapAlloc), goroutines: runtime.NumGoroutine()}
	files, _ := os.ReadDir("/proc/self/fd")
	threads, _ := os.ReadDir("/proc/self/task")
	u.files, u.threads = len(files), len(threads)
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
		u.rss = pages * int64(os.Getpagesize())
	}
	return u
}

// Over 1,000 pictures of the embedded model, with offloading and without, some of them cancelled, nothing grows.
func TestNothingGrows(t *testing.T) {
	for name, strategy := range map[string]offload.Strategy{"offload=none": nil, "offload=sequential": offload.Sequential(offload.Prefetch(1 << 16))} {
		t.Run(name, func(t *testing.T) {
			model, err := loader.Tiny()
			if err != nil {
				t.Fatal(err)
			}
			defer model.Close()
			memory := graphs.NewHostMemory(0)
			p, err := pipeline.NewTextToImage(model, graphs.WithThreads(2), graphs.WithHostMemory(memory))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if err := p.SetOffload(strategy); err != nil {
				t.Fatal(err)
			}
			draw := func(i int) {
				r := pipeline.Request{Prompt: red, NumInferenceSteps: 2, Height: 16, Width: 16, Seed: pipeline.Seed(uint64(i))}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%10 == 9 {
					r.OnStepEnd = func(pipeline.Step) error { cancel(); return nil }
				}
				if _, err := p.Generate(ctx, r); err != nil && !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			const marks = 5
			pictures := 500 / some(10) // per strategy
			var at [marks + 1]use
			for i := range 50 {
				draw(i)
			}
			at[0] = useNow(memory)
			for k := range marks {
				for i := range pictures / marks {
					draw(i)
				}
				at[k+1] = useNow(memory)
			}
			first, last := at[0], at[marks]
			t.Logf("after %d pictures: %+v, then %+v", pictures, first, last)
			if last.buffers != first.buffers || last.goroutines > first.goroutines || last.files > first.files {
				t.Errorf("buffers %d and %d, goroutines %d and %d, files %d and %d", first.buffers, last.buffers, first.goroutines, last.goroutines, first.files, last.files)
			}
			// The runtime starts threads when it wants to, but not one per picture.
			if last.threads > first.threads+4 {
				t.Errorf("%d threads, then %d", first.threads, last.threads)
			}
			// A kibibyte per picture, and what comes and goes. The race detector takes memory of its own.
			slack := int64(pictures) << 10
			if last.heap > first.heap+slack+1<<20 || last.rss > first.rss+slack+4<<20 && !bounded.Race {
				t.Errorf("the heap grows by %d bytes, the process by %d", last.heap-first.heap, last.rss-first.rss)
			}
		})
	}
}
