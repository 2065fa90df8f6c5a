// Package engine executes plans of package offload on a device.
package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/offload"
)

// Engine executes a plan on a device: an arena of exactly the plan's peak, and the plan's copies, each issued as
// soon as the calls it waits for are. Compute calls Before and After around every call, in the inventory's order.
// Between Start and Stop an Engine is one goroutine's.
type Engine struct {
	plan   *offload.Plan
	inv    *offload.Inventory
	master func(weight int) []byte
	dev    device.Device
	memory device.Ptr
	kept   bool // the kept loads are in place, from an earlier image

	called  int // calls done or issued, of the timeline
	issued  int // copies issued, of the image
	awaited int // copies that the compute stream was told to wait for
	running bool
	loose   bool // work of an earlier image may be under way: nobody could wait for it

	copies []offload.Copy
	need   []int // per call of the timeline: copies that must be done before it
	end    int   // of the timeline
	stats  Stats

	computed  device.Event   // the calls issued before a copy
	origin    device.Event   // the image's beginning
	arrived   []device.Event // of copies that are issued and not awaited, oldest first
	intervals []interval     // to be measured, oldest first
	measured  int            // copies that were
	spare     []device.Event

	record bool  // events of the image
	live   []int // bytes alive in each call, if they are recorded
	events []offload.Event
	phase  int // of the call that runs, and
	call   int
	open   interval // the call itself
}

// interval is work between two events: a copy, a call, or the compute stream's waiting for a copy.
type interval struct {
	begin, end device.Event
	kind       kind
	event      int // of Engine.events, -1 if they are not recorded
}

type kind uint8

const (
	aCopy kind = iota
	aCall
	aWait
)

// Record makes the engine note every call and copy of the images to come.
func (e *Engine) Record() { e.record, e.live = true, e.plan.Live(e.inv) }

// Events are those of the last image, if they were recorded.
func (e *Engine) Events() []offload.Event { return e.events }

// Stats is what an image took.
type Stats struct {
	Peak     int           // bytes of device memory
	Uploaded int64         // bytes copied
	CopyTime time.Duration // the copy engine was busy
	Stalled  time.Duration // calls waited for copies
}

// New verifies a plan and allocates its memory. master gives a weight's bytes, which never change and which the
// device can copy from.
func New(p *offload.Plan, inv *offload.Inventory, master func(weight int) []byte, dev device.Device) (*Engine, error) {
	if err := offload.Verify(p, inv); err != nil {
		return nil, err
	}
	e := &Engine{plan: p, inv: inv, master: master, dev: dev, end: inv.Position(len(inv.Phases), 0, 0)}
	var err error
	if e.memory, err = dev.Alloc(max(p.Peak, 1)); err != nil {
		return nil, err
	}
	for _, ev := range []*device.Event{&e.computed, &e.origin} {
		if *ev, err = dev.NewEvent(); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

// Close gives the device memory back.
func (e *Engine) Close() error {
	_, err := e.Stop()
	for _, iv := range e.intervals { // left by a failure
		e.spare = append(e.spare, iv.begin, iv.end)
	}
	for _, ev := range append(e.spare, e.computed, e.origin) {
		if ev != nil {
			err = errors.Join(err, e.dev.FreeEvent(ev))
		}
	}
	return errors.Join(err, e.dev.Free(e.memory))
}

// Activations is where a phase's activations lie.
func (e *Engine) Activations(phase int) device.Ptr {
	return e.memory + device.Ptr(e.plan.Phases[phase].Offset)
}

// Weight is where a weight lies in a phase: its bytes are there for calls issued after Before has returned for one
// that reads it.
func (e *Engine) Weight(phase, weight int) device.Ptr {
	for i := range e.plan.Loads {
		l := &e.plan.Loads[i]
		if phase < l.Phase || phase > l.Until && l.Stays != offload.Kept {
			continue
		}
		at := l.Offset
		for _, w := range l.Weights {
			if w == weight {
				return e.memory + device.Ptr(at)
			}
			at += offload.AlignUp(e.inv.Weights[w].Bytes)
		}
	}
	return 0
}

// Address is that of an offset in the plan's memory.
func (e *Engine) Address(offset int) device.Ptr { return e.memory + device.Ptr(offset) }

// Resident is where a weight lies in the plan's memory, if its bytes are there for the calls issued now.
func (e *Engine) Resident(weight int) (offset int, ok bool) {
	find := func(load int) (int, bool) {
		l := &e.plan.Loads[load]
		at := l.Offset
		for _, w := range l.Weights {
			if w == weight {
				return at, true
			}
			at += offload.AlignUp(e.inv.Weights[w].Bytes)
		}
		return 0, false
	}
	if e.kept {
		for i := range e.plan.Loads {
			if e.plan.Loads[i].Stays == offload.Kept {
				if at, ok := find(i); ok {
					return at, true
				}
			}
		}
	}
	if !e.running {
		return 0, false
	}
	for _, c := range e.copies[:min(e.awaited, len(e.copies))] {
		if c.Last >= e.called {
			if at, ok := find(c.Load); ok {
				return at, true
			}
		}
	}
	return 0, false
}

// ErrRunning is returned when a second image is started while one runs.
var ErrRunning = errors.New("engine: an image is being made")

// Start begins an image: the copies that wait for nothing set off.
func (e *Engine) Start() error {
	if e.running {
		return ErrRunning
	}
	if e.loose {
		if err := e.settle(); err != nil {
			return err
		}
	}
	e.copies, e.need = e.copies[:0], make([]int, e.end+1)
	for _, c := range e.plan.Copies(e.inv) {
		if e.kept && e.plan.Loads[c.Load].Stays == offload.Kept {
			continue
		}
		e.copies = append(e.copies, c)
		e.need[c.First] = len(e.copies)
	}
	e.called, e.issued, e.awaited, e.measured, e.running = 0, 0, 0, 0, true
	e.stats = Stats{Peak: e.plan.Peak}
	e.events, e.phase, e.call = nil, 0, -1
	for _, iv := range e.intervals { // of an image whose end failed
		e.spare = append(e.spare, iv.begin, iv.end)
	}
	e.intervals = e.intervals[:0]
	if err := e.dev.Record(e.origin, device.Compute); err != nil {
		return err
	}
	return e.issue()
}

// issue hands out the copies whose waits are for calls already issued: they begin when those are done.
func (e *Engine) issue() error {
	for first := true; e.issued < len(e.copies) && e.copies[e.issued].After < e.called; first = false {
		if first && e.called > 0 {
			if err := errors.Join(e.dev.Record(e.computed, device.Compute), e.dev.Wait(device.Copy, e.computed)); err != nil {
				return err
			}
		}
		l := &e.plan.Loads[e.copies[e.issued].Load]
		iv, err := e.begin(device.Copy, aCopy, e.inv.Weights[l.Weights[0]].Name)
		if err != nil {
			return err
		}
		if err := e.copyIn(l, iv.event); err != nil {
			return err
		}
		if err := e.finish(iv, device.Copy); err != nil {
			return err
		}
		e.arrived = append(e.arrived, iv.end)
		e.issued++
	}
	return e.measure(maxIntervals)
}

// maxIntervals bounds the events in use.
const maxIntervals = 512

// begin marks the beginning of an interval in a stream.
func (e *Engine) begin(s device.Stream, k kind, name string) (iv interval, err error) {
	iv = interval{kind: k, event: -1}
	if e.record && k != aWait {
		iv.event = len(e.events)
		e.events = append(e.events, offload.Event{Name: name, Copy: k == aCopy})
	}
	for len(e.spare) < 2 {
		ev, err := e.dev.NewEvent()
		if err != nil {
			return iv, err
		}
		e.spare = append(e.spare, ev)
	}
	// The events stay spare until the interval has begun and ended without an error.
	n := len(e.spare)
	iv.begin, iv.end = e.spare[n-1], e.spare[n-2]
	return iv, e.dev.Record(iv.begin, s)
}

// finish marks its end.
func (e *Engine) finish(iv interval, s device.Stream) error {
	if err := e.dev.Record(iv.end, s); err != nil {
		return err
	}
	e.spare = e.spare[:len(e.spare)-2]
	e.intervals = append(e.intervals, iv)
	return nil
}

// measure adds up the oldest intervals until at most n are left, or one whose event is still needed.
func (e *Engine) measure(n int) error {
	for len(e.intervals) > n {
		iv := e.intervals[0]
		if iv.kind == aCopy && e.measured >= e.awaited && e.running {
			break
		}
		if err := errors.Join(e.dev.Sync(e.origin), e.dev.Sync(iv.end)); err != nil {
			return err
		}
		d, err := e.dev.Elapsed(iv.begin, iv.end)
		if err != nil {
			return err
		}
		switch iv.kind {
		case aCopy:
			e.measured++
			e.stats.CopyTime += d
		case aWait:
			e.stats.Stalled += d
		}
		if iv.event >= 0 {
			since, err := e.dev.Elapsed(e.origin, iv.begin)
			if err != nil {
				return err
			}
			e.events[iv.event].Begin, e.events[iv.event].End = since, since+d
		}
		e.spare = append(e.spare, iv.begin, iv.end)
		e.intervals = e.intervals[1:]
	}
	return nil
}

// copyIn issues the copies of a load. Weights that are neighbours on both sides go in one.
func (e *Engine) copyIn(l *offload.Load, event int) error {
	at, to, bytes := l.Offset, l.Offset, 0
	var src []byte
	flush := func() error {
		if len(src) == 0 {
			return nil
		}
		return e.dev.CopyIn(device.Copy, e.memory+device.Ptr(to), src)
	}
	for _, w := range l.Weights {
		m := e.master(w)
		if len(src) == at-to && follows(src, m) {
			src = unsafe.Slice(unsafe.SliceData(src), len(src)+len(m))
		} else {
			if err := flush(); err != nil {
				return err
			}
			src, to = m, at
		}
		bytes += len(m)
		at += offload.AlignUp(e.inv.Weights[w].Bytes)
	}
	e.stats.Uploaded += int64(bytes)
	if event >= 0 {
		e.events[event].Bytes = bytes
	}
	return flush()
}

// follows reports whether b lies right behind a.
func follows(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 && unsafe.Add(unsafe.Pointer(unsafe.SliceData(a)), len(a)) == unsafe.Pointer(unsafe.SliceData(b))
}

// Before makes the next call wait until what it reads is in place.
func (e *Engine) Before() error {
	if !e.running || e.called >= e.end {
		return errors.New("engine: more calls are run than the plan has")
	}
	if err := e.issue(); err != nil {
		return err
	}
	if n := e.need[e.called]; n > e.awaited {
		last := n - e.awaited - 1 // copies are done in order
		if last >= len(e.arrived) {
			return errors.New("internal error: a call needs a copy that waits for it")
		}
		if err := e.await(last + 1); err != nil {
			return err
		}
		e.awaited = n
	}
	if !e.record {
		return nil
	}
	e.next()
	var err error
	e.open, err = e.begin(device.Compute, aCall, e.inv.Phases[e.phase].Calls[e.call].Layer)
	if err == nil {
		e.events[e.open.event].Live = e.live[e.called]
	}
	return err
}

// Idle is how many calls, most of which are asked about, from the one that Before was last called for need neither
// Before nor After but that one: nothing is copied or waited for between them. Passed says that they were issued.
func (e *Engine) Idle(most int) int {
	if e.record {
		return 1
	}
	end := min(e.end, e.called+most)
	if e.issued < len(e.copies) {
		end = min(end, e.copies[e.issued].After+1)
	}
	n := 1
	for e.called+n < end && e.need[e.called+n] <= e.awaited {
		n++
	}
	return n
}

// Passed says that n calls are issued, as n times After.
func (e *Engine) Passed(n int) { e.called += n }

// BeginPass says that the next call is the first of a pass. Passes that the plan has before the first pass of a phase
// may be left out, and with them their copies.
func (e *Engine) BeginPass(phase, pass int) error {
	to := e.inv.Position(phase, pass, 0)
	switch {
	case !e.running || to == e.called:
		return nil
	case to < e.called || pass > 0:
		return fmt.Errorf("engine: pass %d of phase %d begins at call %d, and %d are done", pass, phase, to, e.called)
	}
	// What is on its way for calls that are left out must not arrive in memory that is used for something else.
	if n := len(e.arrived); n > 0 {
		if err := e.await(n); err != nil {
			return err
		}
		e.awaited = e.issued
	}
	rest := e.copies[e.issued:]
	e.copies = e.copies[:e.issued:e.issued]
	clear(e.need)
	for _, c := range rest {
		if c.Last < to {
			continue
		}
		e.copies = append(e.copies, c)
		e.need[max(c.First, to)] = len(e.copies)
	}
	e.called, e.phase, e.call = to, phase, -1
	return nil
}

// await makes the compute stream wait for the oldest n of the copies on their way: they are done in order.
func (e *Engine) await(n int) error {
	iv, err := e.begin(device.Compute, aWait, "")
	if err != nil {
		return err
	}
	if err := e.dev.Wait(device.Compute, e.arrived[n-1]); err != nil {
		return err
	}
	if err := e.finish(iv, device.Compute); err != nil {
		return err
	}
	e.arrived = append(e.arrived[:0], e.arrived[n:]...)
	return nil
}

// next moves phase and call to the call that begins.
func (e *Engine) next() {
	for e.call++; e.call >= len(e.inv.Phases[e.phase].Calls); e.call = 0 {
		if e.called == e.inv.Position(e.phase+1, 0, 0) {
			e.phase++
		}
		if len(e.inv.Phases[e.phase].Calls) > 0 {
			e.call = 0
			return
		}
	}
}

// After says that the call is issued: what it read last may be overwritten when it is done.
func (e *Engine) After() error {
	e.called++
	if !e.record {
		return nil
	}
	return e.finish(e.open, device.Compute)
}

// Stop ends an image, complete or not, and waits for what is under way.
func (e *Engine) Stop() (Stats, error) {
	if !e.running {
		return e.stats, nil
	}
	e.running = false
	err := e.settle()
	if err == nil {
		// Also of an image that ended early: what stays for ever has been copied.
		e.kept = !slices.ContainsFunc(e.copies[e.issued:], func(c offload.Copy) bool { return e.plan.Loads[c.Load].Stays == offload.Kept })
		err = e.measure(0)
	}
	e.arrived = e.arrived[:0]
	return e.stats, err
}

// settle waits for what is under way. An event that was not recorded is not waited for: it may be of work before.
func (e *Engine) settle() (err error) {
	for _, s := range []device.Stream{device.Compute, device.Copy} {
		failed := e.dev.Record(e.computed, s)
		if failed == nil {
			failed = e.dev.Sync(e.computed)
		}
		err = errors.Join(err, failed)
	}
	e.loose = err != nil
	return err
}
