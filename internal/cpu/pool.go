// Package cpu holds the float32 kernels of the host device. Activations are row-major slices with channels
// last; weights are Panels, laid out once at load for the micro-kernel and kept in their stored type.
//
// Every kernel is a method of Pool, which owns the threads and their scratch memory. A method returns when
// its result is complete. The same call gives the same bits for any number of threads: work is split only
// between elements (or between fixed chunks that are summed in a fixed order), never inside a sum.
//
// A slice of the wrong length is a bug in this module and panics.
package cpu

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool runs kernels on a fixed number of threads: the caller's and Threads()-1 goroutines of its own.
// It runs one kernel at a time; calling it from two goroutines, or from inside a body, panics.
type Pool struct {
	k       kernels // the assembly where the processor has it; tests put the portable twin here
	threads int
	jobs    []chan *job // one per goroutine of the pool
	busy    atomic.Bool
	closed  sync.Once
	scratch []scratch // one per worker
	stats   []float64 // chunk sums of GroupNorm
	sums    []float64 // of Summarize, per chunk
	zero    []float32 // what a convolution reads outside the image

	ones, zeros []float32 // gamma and beta of a LayerNorm without
}

// job is one call of For.
type job struct {
	n    int
	next atomic.Int64
	body func(worker, i int)
	wg   sync.WaitGroup

	mu    sync.Mutex
	panic any
}

// MaxThreads is the most threads that a pool should have. Each takes a stack and, when it has worked, scratch memory of
// up to some MiB; a machine of more processors gains nothing more for the sizes that pictures have.
const MaxThreads = 1024

// NewPool starts a pool; 0 threads means GOMAXPROCS.
func NewPool(threads int) *Pool {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &Pool{
		k:       bestKernels(),
		threads: threads,
		jobs:    make([]chan *job, threads-1),
		scratch: make([]scratch, threads),
		zero:    make([]float32, kcMax),
	}
	for i := range p.jobs {
		p.jobs[i] = make(chan *job)
		go func() {
			for j := range p.jobs[i] {
				j.run(i + 1)
				j.wg.Done()
			}
		}()
	}
	return p
}

// Close ends the pool's goroutines. No kernel may be running.
func (p *Pool) Close() {
	p.closed.Do(func() {
		for _, c := range p.jobs {
			close(c)
		}
	})
}

// Kernels names the twin of the inner loops in use.
func (p *Pool) Kernels() string { return p.k.name }

// Threads is the number of bodies that run at the same time.
func (p *Pool) Threads() int { return p.threads }

// For calls body for every i in [0,n) and returns when all calls have. worker, in [0,Threads()), is a number
// that no two calls running at the same time share. Items are handed out in order, one by one. If a body
// panics, the items not yet begun are dropped and the first panic is raised again in the caller.
func (p *Pool) For(n int, body func(worker, i int)) {
	if !p.busy.CompareAndSwap(false, true) {
		panic("cpu: Pool used from two goroutines, or from inside a body")
	}
	defer p.busy.Store(false)
	j := &job{n: n, body: body}
	for _, c := range p.jobs[:max(0, min(len(p.jobs), n-1))] {
		j.wg.Add(1)
		c <- j
	}
	j.run(0)
	j.wg.Wait()
	if j.panic != nil {
		panic(j.panic)
	}
}

func (j *job) run(worker int) {
	defer func() {
		if r := recover(); r != nil {
			j.next.Store(int64(j.n))
			j.mu.Lock()
			if j.panic == nil {
				j.panic = r
			}
			j.mu.Unlock()
		}
	}()
	for {
		i := int(j.next.Add(1)) - 1
		if i >= j.n {
			return
		}
		j.body(worker, i)
	}
}

// scratch is the memory one worker keeps between calls.
type scratch struct {
	offsets []int     // where each row of the block finds its input, per tap
	strip   []float32 // GEMM: sums of one work item. Attention: output sums
	panel   []float32 // GEMM: one weight panel in float32. Attention: keys and values as panels
	row     []float32 // GEMM: bias. Attention: scores of six queries, then maxima and sums
	wide    []float64 // channel sums of GroupNorm
	tile    tile      // the micro-kernel's arguments: one that escapes per worker, not one per call
}

// grow returns s with length n, keeping the old memory when it is large enough. The contents are undefined.
func grow[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	return (*s)[:n]
}

// ScratchBytes is the memory the pool holds beside its callers' slices.
func (p *Pool) ScratchBytes() int {
	n := 4*(cap(p.zero)+cap(p.ones)+cap(p.zeros)) + 8*cap(p.stats)
	for _, s := range p.scratch {
		n += 8*cap(s.offsets) + 4*(cap(s.strip)+cap(s.panel)+cap(s.row)) + 8*cap(s.wide)
	}
	return n
}

// check panics unless a slice has the length its shape asks for.
func check(op, name string, have, want int) {
	if have != want {
		panic(fmt.Sprintf("cpu: %s: %s has %d elements, want %d", op, name, have, want))
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
