package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/seam"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// requests differ in everything that compiled networks depend on.
func requests() (list []pipeline.Request) {
	for i, prompt := range []string{red, "a bar", ""} {
		for _, side := range []int{8, 16} {
			r := small()
			r.Prompt, r.Height, r.Seed = prompt, side, pipeline.Seed(uint64(i))
			r.GuidanceScale = float32(1 + 3*i) // 1: none, and another batch size
			list = append(list, r)
		}
	}
	return list
}

// One pipeline may be used from many goroutines: each gets the bits it gets alone.
func TestGoroutinesGetTheSerialResults(t *testing.T) {
	p := openGolden(t, "sd1", graphs.WithThreads(2))
	reqs := requests()
	var want []outcome
	for _, r := range reqs {
		want = append(want, run(t, p, r))
	}
	goroutines := runtime.NumGoroutine()
	const runs = 50
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range runs {
				k := (g + i) % len(reqs)
				res, err := p.Generate(context.Background(), reqs[k])
				if err != nil || !bitsOf(res).equal(want[k]) {
					t.Errorf("goroutine %d, run %d: another picture, error %v", g, i, err)
				}
			}
		})
	}
	wg.Wait()
	testkit.NoMoreGoroutines(t, goroutines)
}

// Close during any operation, from several goroutines, ends the run with ErrClosed before the next one, and all
// calls that wait for it; no thread is left.
func TestCloseDuringARun(t *testing.T) {
	before := runtime.NumGoroutine()
	for at := 1; at < 400; at += 10 * some(10) {
		var in seam.Seam
		opts := []graphs.Option{graphs.WithThreads(2), graphs.WithSeam(&in)}
		if at%20 == 1 {
			opts = append(opts, graphs.WithOffload(offload.Sequential()))
		}
		p := openGolden(t, "sd1", opts...)
		run(t, p, small())
		begun := 0
		var wg sync.WaitGroup
		in.Op = func(string) {
			if begun++; begun != at {
				return
			}
			for range 3 { // they wait for this run, or come too late
				wg.Go(func() {
					if _, err := p.Generate(context.Background(), small()); !errors.Is(err, graphs.ErrClosed) {
						t.Errorf("a call that waits: %v", err)
					}
				})
			}
			for range 3 {
				wg.Go(func() {
					if err := p.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
			}
			<-p.Done()
		}
		if _, err := p.Generate(t.Context(), small()); !errors.Is(err, graphs.ErrClosed) || begun != at {
			t.Errorf("closed during operation %d: %d were begun, error %v", at, begun, err)
		}
		wg.Wait()
		if _, err := p.Generate(t.Context(), small()); !errors.Is(err, graphs.ErrClosed) {
			t.Errorf("a later call: %v", err)
		}
		testkit.NoMoreGoroutines(t, before)
	}
}

// OnStepEnd is the caller's own function: it may close the pipeline, or wait for a goroutine that does.
func TestCloseInACallback(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere=%t", elsewhere), func(t *testing.T) {
			p := openGolden(t, "sd1", graphs.WithThreads(2))
			r := small()
			r.OnStepEnd = func(pipeline.Step) error {
				if !elsewhere {
					return p.Close()
				}
				closed := make(chan error)
				go func() { closed <- p.Close() }()
				return <-closed
			}
			if _, err := p.Generate(t.Context(), r); !errors.Is(err, graphs.ErrClosed) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Pipelines of one model may be made and used side by side; closing the model under them is an error, not a crash.
func TestPipelinesShareAModel(t *testing.T) {
	m, err := loader.Open(filepath.Join(golden.Dir(), "sd1"))
	if err != nil {
		t.Fatal(err)
	}
	want := run(t, openGolden(t, "sd1"), small())
	var wg sync.WaitGroup
	pipelines := make([]*pipeline.TextToImage, 4)
	for i := range pipelines {
		wg.Go(func() {
			p, err := pipeline.NewTextToImage(m, graphs.WithThreads(2))
			if err != nil {
				t.Error(err)
				return
			}
			pipelines[i] = p
			if i == 0 {
				return // reads its weights when the model is closed
			}
			res, err := p.Generate(context.Background(), small())
			if err != nil || !bitsOf(res).equal(want) {
				t.Errorf("pipeline %d: another picture, error %v", i, err)
			}
		})
	}
	wg.Wait()
	for range 2 {
		if err := m.Close(); err != nil {
			t.Errorf("closing the model: %v", err)
		}
	}
	for i, p := range pipelines {
		_, err := p.Generate(t.Context(), small())
		if i == 0 && !errors.As(err, new(*loader.Error)) || i > 0 && err != nil {
			t.Errorf("pipeline %d after the model was closed: %v", i, err)
		}
		p.Close()
	}
}
