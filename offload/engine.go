package offload

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Engine executes a plan on the host device: an arena of exactly the plan's peak, and a copy engine, a goroutine
// that makes the plan's copies in order. Compute calls Before and After around every call, in the inventory's
// order.
type Engine struct {
	plan   *Plan
	inv    *Inventory
	master func(weight int) []byte
	memory []byte
	kept   bool // the kept loads are in place, from an earlier image

	mu      sync.Mutex
	moved   *sync.Cond // signalled when a number below changes
	called  int        // calls done, of the timeline
	copied  int        // copies done, of the image
	stopped bool
	done    chan struct{} // closed when the copy engine has ended
	running bool

	need  []int // per call of the timeline's phases: copies that must be done, see prepare
	time  timeline
	stats EngineStats

	record bool // events of the image
	events []Event
	begun  time.Time
	phase  int // of the call that runs, and
	call   int
	open   int // its event
}

// Record makes the engine note every call and copy of the images to come.
func (e *Engine) Record() { e.record = true }

// Events are those of the last image, if they were recorded.
func (e *Engine) Events() []Event { return e.events }

// EngineStats is what an image took.
type EngineStats struct {
	Peak     int           // bytes of device memory
	Uploaded int64         // bytes copied
	CopyTime time.Duration // the copy engine was busy
	Stalled  time.Duration // calls waited for copies
}

// NewEngine verifies a plan and allocates its memory. master gives a weight's bytes, which never change.
func NewEngine(p *Plan, inv *Inventory, master func(weight int) []byte, allocate func(n int) ([]byte, error)) (*Engine, error) {
	if err := Verify(p, inv); err != nil {
		return nil, err
	}
	mem, err := allocate(p.Peak)
	if err != nil {
		return nil, err
	}
	if len(mem) != p.Peak {
		return nil, fmt.Errorf("offload: %d bytes of device memory, the plan takes %d", len(mem), p.Peak)
	}
	e := &Engine{plan: p, inv: inv, master: master, memory: mem, time: newTimeline(inv)}
	e.moved = sync.NewCond(&e.mu)
	return e, nil
}

// Memory is the device's.
func (e *Engine) Memory() []byte { return e.memory }

// Activations is where a phase's activations lie in Memory.
func (e *Engine) Activations(phase int) PhaseRegion { return e.plan.Phases[phase] }

// Weight is where a weight lies in a phase: always there once Before has returned for a call that reads it.
func (e *Engine) Weight(phase, weight int) []byte {
	for i := range e.plan.Loads {
		l := &e.plan.Loads[i]
		if phase < l.Phase || phase > l.Until && l.Stays != Kept {
			continue
		}
		at := l.Offset
		for _, w := range l.Weights {
			n := e.inv.Weights[w].Bytes
			if w == weight {
				return e.memory[at : at+n : at+n]
			}
			at += align(n)
		}
	}
	return nil
}

// ErrRunning is returned when a second image is started while one runs.
var ErrRunning = errors.New("offload: an image is being made")

// Start begins an image: the copy engine sets off.
func (e *Engine) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running {
		return ErrRunning
	}
	var copies []copyOf
	need := make([]int, e.time.end+1)
	e.time.copies(e.plan, 0, func(c copyOf) {
		if e.kept && e.plan.Loads[c.load].Stays == Kept {
			return
		}
		copies = append(copies, c)
		need[c.need] = len(copies)
	})
	e.need, e.called, e.copied, e.stopped, e.running = need, 0, 0, false, true
	e.stats = EngineStats{Peak: e.plan.Peak}
	e.events, e.begun, e.phase, e.call = nil, time.Now(), 0, -1
	e.done = make(chan struct{})
	go e.copyAll(copies, e.done)
	return nil
}

// copyAll is the copy engine.
func (e *Engine) copyAll(copies []copyOf, done chan struct{}) {
	defer close(done)
	for _, c := range copies {
		e.mu.Lock()
		for e.called <= c.start && !e.stopped {
			e.moved.Wait()
		}
		stopped := e.stopped
		e.mu.Unlock()
		if stopped {
			return
		}
		begin, bytes := time.Now(), 0
		l := &e.plan.Loads[c.load]
		at := l.Offset
		for _, w := range l.Weights {
			n := copy(e.memory[at:at+e.inv.Weights[w].Bytes], e.master(w))
			bytes += n
			at += align(e.inv.Weights[w].Bytes)
		}
		e.mu.Lock()
		e.copied++
		e.stats.Uploaded += int64(bytes)
		e.stats.CopyTime += time.Since(begin)
		if e.record {
			e.events = append(e.events, Event{Name: e.inv.Weights[l.Weights[0]].Name, Copy: true, Begin: begin.Sub(e.begun), End: time.Since(e.begun), Bytes: bytes})
		}
		e.moved.Broadcast()
		e.mu.Unlock()
	}
}

// Before waits until what the next call reads is in place.
func (e *Engine) Before() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.running || e.called >= e.time.end {
		return errors.New("offload: more calls are run than the plan has")
	}
	if n := e.need[e.called]; e.copied < n {
		begin := time.Now()
		for e.copied < n && !e.stopped {
			e.moved.Wait()
		}
		e.stats.Stalled += time.Since(begin)
	}
	if e.stopped {
		return errors.New("offload: stopped")
	}
	if e.record {
		e.next()
		e.events = append(e.events, Event{Name: e.inv.Phases[e.phase].Calls[e.call].Layer, Begin: time.Since(e.begun)})
		e.open = len(e.events) - 1
	}
	return nil
}

// next moves phase and call to the call that begins.
func (e *Engine) next() {
	p := &e.inv.Phases[e.phase]
	if e.call++; e.call < len(p.Calls) {
		return
	}
	e.call = 0
	if e.called == e.time.base[e.phase]+p.Passes*len(p.Calls) {
		e.phase++
	}
}

// After says that the call is done: what it read last may be overwritten.
func (e *Engine) After() {
	e.mu.Lock()
	if e.record {
		e.events[e.open].End = time.Since(e.begun)
	}
	e.called++
	e.moved.Broadcast()
	e.mu.Unlock()
}

// Stop ends an image, complete or not, and waits for the copy engine. Nothing is in flight afterwards.
func (e *Engine) Stop() EngineStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.running {
		return e.stats
	}
	complete := e.called == e.time.end
	e.stopped = true
	e.moved.Broadcast()
	done := e.done
	e.mu.Unlock()
	<-done
	e.mu.Lock()
	e.running = false
	e.kept = complete || e.kept
	return e.stats
}
