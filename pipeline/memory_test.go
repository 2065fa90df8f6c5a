package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/seam"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// Every place that takes memory may find none, once or for good: the run ends with a *MemoryError, the pipeline has
// given back all it had, and the next run gives the same bits.
func TestEveryAllocationMayFail(t *testing.T) {
	for name, opts := range map[string][]graphs.Option{
		"offload=none":       nil,
		"offload=sequential": {graphs.WithOffload(offload.Sequential(offload.Prefetch(1 << 16)))},
	} {
		t.Run(name, func(t *testing.T) {
			memory := graphs.NewHostMemory(0)
			opts := append(opts, graphs.WithThreads(2), graphs.WithHostMemory(memory))
			want := run(t, openGolden(t, "sd1"), small())
			asked, at, forever := 0, 0, false
			var in seam.Seam
			opts = append(opts, graphs.WithSeam(&in))
			fresh := func() *pipeline.TextToImage {
				in.Alloc = nil
				p := openGolden(t, "sd1", opts...)
				asked = 0
				in.Alloc = func(n int) error {
					if asked++; asked == at || forever && asked > at {
						return &graphs.MemoryError{Need: int64(n)}
					}
					return nil
				}
				return p
			}
			p := fresh()
			run(t, p, small())
			sites := asked
			p.Close()
			goroutines := runtime.NumGoroutine()
			points := 0
			for _, forever = range []bool{false, true} {
				for at = 1; at <= sites; at += some(5) {
					points++
					p := fresh()
					_, err := p.Generate(t.Context(), small())
					if !errors.As(err, new(*graphs.MemoryError)) {
						t.Fatalf("allocation %d of %d fails: %v", at, sites, err)
					}
					if n := memory.Used(); n != 0 {
						t.Fatalf("allocation %d of %d fails: %d bytes stay", at, sites, n)
					}
					in.Alloc = nil
					if !run(t, p, small()).equal(want) {
						t.Fatalf("after allocation %d failed the next run gives another picture", at)
					}
					p.Close()
					if n := memory.Used(); n != 0 {
						t.Fatalf("after Close %d bytes stay", n)
					}
					testkit.NoMoreGoroutines(t, goroutines)
				}
				at = 0
			}
			// What an earlier picture has left goes too.
			forever = false
			p = fresh()
			run(t, p, small())
			at = asked + 1
			if _, err := p.Generate(t.Context(), small()); !errors.As(err, new(*graphs.MemoryError)) || memory.Used() != 0 {
				t.Errorf("the first allocation of the second picture fails: %v, %d bytes stay", err, memory.Used())
			}
			t.Logf("%d allocations, %d runs in which one failed", sites, points)
		})
	}
}

// A pipeline stays within its budget, whatever that is, or says that it cannot.
func TestHostMemoryBudgets(t *testing.T) {
	want := run(t, openGolden(t, "sd1"), small())
	all := graphs.NewHostMemory(0)
	p := openGolden(t, "sd1", graphs.WithHostMemory(all))
	run(t, p, small())
	peak := all.Peak()
	p.Close()
	ran := 0
	for i := range int64(17) {
		limit := peak * (i + 1) / 16
		m := graphs.NewHostMemory(limit)
		p := openGolden(t, "sd1", graphs.WithHostMemory(m))
		res, err := p.Generate(t.Context(), small())
		var e *graphs.MemoryError
		switch {
		case m.Peak() > limit:
			t.Errorf("a budget of %d bytes: %d were taken", limit, m.Peak())
		case err == nil && !bitsOf(res).equal(want):
			t.Errorf("a budget of %d bytes: another picture", limit)
		case err == nil:
			ran++
		case !errors.As(err, &e) || e.Need <= e.Have || m.Used() != 0:
			t.Errorf("a budget of %d bytes: %v, %d bytes stay", limit, err, m.Used())
		}
		p.Close()
	}
	if ran < 2 || ran > 8 {
		t.Errorf("%d of 17 budgets are enough", ran)
	}
}

// Two pipelines that share a budget never wait for each other: each gets its own bits or a *MemoryError, in every
// interleaving, and together they stay within the budget.
func TestTwoPipelinesShareABudget(t *testing.T) {
	folders := [2]string{"sd1", "sd2"}
	var want [2]outcome
	var peaks [2][3]int64 // by folder and strategy
	open := func(i int, m *graphs.HostMemory, strategy offload.Strategy, in *seam.Seam) *pipeline.TextToImage {
		opts := []graphs.Option{graphs.WithThreads(1), graphs.WithHostMemory(m), graphs.WithSeam(in)}
		if strategy != nil {
			opts = append(opts, graphs.WithOffload(strategy))
		}
		return openGolden(t, folders[i], opts...)
	}
	strategies := []offload.Strategy{nil, offload.Model(), offload.Sequential(offload.Prefetch(1 << 16))}
	for i := range folders {
		for k, s := range strategies {
			m := graphs.NewHostMemory(0)
			p := open(i, m, s, &seam.Seam{})
			want[i] = run(t, p, small())
			peaks[i][k] = m.Peak()
			p.Close()
		}
	}
	ran, refused := 0, 0
	for seed := range uint64(200 / some(20)) {
		rng := rand.New(rand.NewPCG(seed, 7))
		// Enough for the larger, and not for both at once.
		k := [2]int{rng.IntN(3), rng.IntN(3)}
		one, other := peaks[0][k[0]], peaks[1][k[1]]
		limit := max(one, other) + rng.Int64N(min(one, other)/2)
		alone := make(chan bool) // closed when the second has made its first picture, or was refused
		m := graphs.NewHostMemory(limit)
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range folders {
			var in seam.Seam
			p := open(i, m, strategies[k[i]], &in)
			var mine sync.Mutex // the reader's goroutines and the caller's
			delays := rand.New(rand.NewPCG(seed, uint64(i)))
			in.Alloc = func(int) error {
				mine.Lock()
				defer mine.Unlock()
				if delays.IntN(8) == 0 {
					time.Sleep(time.Duration(delays.IntN(300)) * time.Microsecond)
				}
				return nil
			}
			wg.Go(func() {
				defer p.Close()
				for n := range 2 {
					r := small()
					if seed == 0 && n+i == 0 { // on a busy machine one may else be done before the other begins
						r.OnStepEnd = func(pipeline.Step) error { <-alone; return nil }
					}
					res, err := p.Generate(context.Background(), r)
					if n == 0 && i == 1 {
						close(alone)
					}
					mu.Lock()
					switch {
					case errors.As(err, new(*graphs.MemoryError)):
						refused++
					case err != nil || !bitsOf(res).equal(want[i]):
						t.Errorf("seed %d: %s: another picture, error %v", seed, folders[i], err)
					default:
						ran++
					}
					mu.Unlock()
				}
			})
		}
		done := make(chan bool)
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(bounded.Hang):
			buf := make([]byte, 1<<20)
			t.Fatalf("seed %d: no progress\n%s", seed, buf[:runtime.Stack(buf, true)])
		}
		if m.Peak() > limit || m.Used() != 0 {
			t.Fatalf("seed %d: %d bytes of %d were taken, %d stay", seed, m.Peak(), limit, m.Used())
		}
	}
	t.Logf("%d pictures, %d refused", ran, refused)
	if ran == 0 || refused == 0 {
		t.Errorf("%d pictures, %d refused: the budgets do not bite", ran, refused)
	}
}

// Offloaded runs give one picture whatever the copy engine's pace is beside the arithmetic's.
func TestOneHashOverSchedules(t *testing.T) {
	for _, folder := range []string{"sd1", "sd2"} {
		want := run(t, openGolden(t, folder), small())
		for _, s := range []offload.Strategy{offload.Model(), offload.Sequential(), offload.Sequential(offload.Prefetch(1 << 16)), offload.Group(2)} {
			var mu sync.Mutex
			copies, calls := 0.0, 0.0 // shares of them that are held up
			rng := rand.New(rand.NewPCG(1, 1))
			hold := func(share *float64) {
				mu.Lock()
				slow := rng.Float64() < *share
				mu.Unlock()
				for begin := time.Now(); slow && time.Since(begin) < 20*time.Microsecond; { // too short to sleep
					runtime.Gosched()
				}
			}
			p := openGolden(t, folder, graphs.WithThreads(1), graphs.WithOffload(s), graphs.WithSeam(&seam.Seam{Copy: func() { hold(&copies) }}),
				graphs.WithHooks(graphs.Hook{Before: func(graphs.Call) error { hold(&calls); return nil }}))
			for seed := range uint64(25 / some(5)) {
				mu.Lock()
				rng = rand.New(rand.NewPCG(seed, 2))
				copies, calls = []float64{0, 1, rng.Float64()}[seed%3], []float64{1, 0, rng.Float64()}[seed%3] // eager, lazy, random
				mu.Unlock()
				res, err := p.Generate(t.Context(), small())
				if err != nil || !bitsOf(res).equal(want) {
					t.Fatalf("%s, %s, seed %d: another picture, error %v", folder, s.Name(), seed, err)
				}
				if res.Offload.Peak != res.Offload.Plan.Peak {
					t.Fatalf("%s, %s: peak %d, planned %d", folder, s.Name(), res.Offload.Peak, res.Offload.Plan.Peak)
				}
			}
			p.Close()
		}
	}
}

// Closing a pipeline gives its memory back, as does closing it in a callback while copies are under way.
func TestCloseGivesMemoryBack(t *testing.T) {
	for _, s := range []offload.Strategy{nil, offload.Sequential(offload.Prefetch(1 << 16))} {
		for _, callback := range []bool{false, true} {
			t.Run(fmt.Sprintf("offloaded=%t/callback=%t", s != nil, callback), func(t *testing.T) {
				m := graphs.NewHostMemory(0)
				model, err := loader.Open(filepath.Join(golden.Dir(), "sd1"))
				if err != nil {
					t.Fatal(err)
				}
				defer model.Close()
				p, err := pipeline.NewTextToImage(model, graphs.WithHostMemory(m))
				if err != nil {
					t.Fatal(err)
				}
				if err := p.SetOffload(s); err != nil {
					t.Fatal(err)
				}
				r := small()
				if callback {
					r.OnStepEnd = func(pipeline.Step) error { return p.Close() }
				}
				_, err = p.Generate(t.Context(), r)
				if callback != errors.Is(err, graphs.ErrClosed) || m.Peak() == 0 {
					t.Errorf("error %v, peak %d", err, m.Peak())
				}
				p.Close()
				if m.Used() != 0 {
					t.Errorf("%d bytes stay", m.Used())
				}
			})
		}
	}
}
