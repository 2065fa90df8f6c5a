package pipeline_test

import (
	"context"
	"errors"
	"image"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/seam"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// small is a request whose every operation can be waited for.
func small() pipeline.Request {
	return pipeline.Request{Prompt: red, NumInferenceSteps: 2, Height: 16, Width: 16, Seed: pipeline.Seed(3)}
}

// outcome is the bits of a result: latents and pixels.
type outcome struct {
	latents []float32
	pix     []uint8
}

func run(t *testing.T, p *pipeline.TextToImage, r pipeline.Request) outcome {
	t.Helper()
	res, err := p.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return bitsOf(res)
}

func bitsOf(res *pipeline.Result) (o outcome) {
	o.latents = res.Latents.Float32s()
	for _, img := range res.Images {
		o.pix = append(o.pix, img.(*image.NRGBA).Pix...)
	}
	return o
}

func (o outcome) equal(p outcome) bool {
	return slices.Equal(o.latents, p.latents) && slices.Equal(o.pix, p.pix)
}

// some is the stride of a loop that takes samples, 1 where it runs whole.
func some(n int) int { return bounded.Some(1, n) }

// A run that is cancelled from another goroutine during any of its operations begins no further one; nothing of
// it is left, and the next run gives the same bits.
func TestCancelledAtEveryOperation(t *testing.T) {
	t.Run("offload=none", func(t *testing.T) { cancelEverywhere(t, some(8)) })
	t.Run("offload=sequential", func(t *testing.T) {
		cancelEverywhere(t, testkit.Long(2)*some(8), graphs.WithOffload(offload.Sequential(offload.Prefetch(1<<16))))
	})
}

func cancelEverywhere(t *testing.T, stride int, opts ...graphs.Option) {
	var in seam.Seam
	p := openGolden(t, "sd1", append(opts, graphs.WithThreads(2), graphs.WithSeam(&in))...)
	want := run(t, p, small())
	total := 0
	in.Op = func(string) { total++ }
	run(t, p, small())
	goroutines := runtime.NumGoroutine()
	points := 0
	for at := 1; at <= total; at += stride {
		points++
		ctx, cancel := context.WithCancel(t.Context())
		now, cancelled := make(chan bool), make(chan bool)
		var when time.Duration
		go func() {
			<-now
			when = bounded.CPU()
			cancel()
			close(cancelled)
		}()
		begun := 0
		in.Op = func(string) {
			if begun++; begun == at {
				close(now)
				<-cancelled
			}
		}
		_, err := p.Generate(ctx, small())
		// During the last operation it is too late.
		if begun != at || at < total && !errors.Is(err, context.Canceled) || at == total && err != nil {
			t.Fatalf("cancelled during operation %d of %d: %d were begun, error %v", at, total, begun, err)
		}
		if took := bounded.CPU() - when; took > bounded.Limit(time.Second) {
			t.Errorf("cancelled during operation %d: it took %v of processor time", at, took)
		}
		testkit.NoMoreGoroutines(t, goroutines)
		in.Op = nil
		if !run(t, p, small()).equal(want) {
			t.Fatalf("after a run cancelled during operation %d the next gives another picture", at)
		}
	}
	t.Logf("%d of %d operations", points, total)
	if total < 200 || bounded.Full() && points < 200 {
		t.Errorf("%d of %d operations, want 200", points, total)
	}
}

// hookFS has every read of a file done by a function.
type hookFS struct {
	fs.FS
	read func(f io.ReaderAt, p []byte, at int64) (int, error)
}

type hookFile struct {
	fs.File
	read func(f io.ReaderAt, p []byte, at int64) (int, error)
}

func (h hookFS) Open(name string) (fs.File, error) {
	f, err := h.FS.Open(name)
	return hookFile{f, h.read}, err
}

func (f hookFile) ReadAt(p []byte, at int64) (int, error) {
	return f.read(f.File.(io.ReaderAt), p, at)
}

// A run that is cancelled while weights are read reads no further tensor, and the next run reads the rest.
func TestCancelledWhileLoading(t *testing.T) {
	reads, at, cancel := 0, 0, context.CancelFunc(nil)
	fsys := hookFS{goldenFS(t, "sd1"), func(f io.ReaderAt, p []byte, offset int64) (int, error) {
		if reads++; reads == at {
			done := make(chan bool)
			go func() { cancel(); close(done) }()
			<-done
		}
		return f.ReadAt(p, offset)
	}}
	fresh := func() *pipeline.TextToImage {
		m, err := loader.OpenFS(fsys)
		if err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.NewTextToImage(m, graphs.WithThreads(1))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := fresh()
	opening := reads
	want := run(t, p, small())
	total := reads
	p.Close()
	for at = opening + 1; at < total; at += 7 * some(7) {
		reads = 0
		p := fresh()
		ctx, stop := context.WithCancel(t.Context())
		cancel = stop
		if _, err := p.Generate(ctx, small()); !errors.Is(err, context.Canceled) || reads != at {
			t.Fatalf("cancelled during read %d of %d: %d were made, error %v", at, total, reads, err)
		}
		// The read that was under way is made again, unless it was quicker than the cancelling.
		if !run(t, p, small()).equal(want) || reads != total && reads != total+1 {
			t.Fatalf("after a run cancelled during read %d the next gives another picture, or reads %d times, want %d", at, reads, total)
		}
		p.Close()
	}
}

// A call that waits for another can be cancelled.
func TestCancelledWhileWaiting(t *testing.T) {
	p := openGolden(t, "sd1", graphs.WithThreads(1))
	first, release := make(chan bool), make(chan bool)
	ended := make(chan error)
	go func() {
		r := small()
		r.NumInferenceSteps = 1
		r.OnStepEnd = func(pipeline.Step) error { close(first); <-release; return nil }
		_, err := p.Generate(context.Background(), r)
		ended <- err
	}()
	<-first
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := p.Generate(ctx, small()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("the call it waited for: %v", err)
	}
}
