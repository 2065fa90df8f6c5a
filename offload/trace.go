package offload

import "time"

// Event is a call or a copy on a clock.
type Event struct {
	Name       string // the layer, or the first weight copied
	Copy       bool
	Begin, End time.Duration // since the image was begun
	Bytes      int           // copied
	Live       int           // of a call: bytes of the arena that hold something during it
}

// Trace is what Simulate's clock saw: every call and every copy of an image.
func Trace(p *Plan, inv *Inventory, prof Profile) []Event {
	var events []Event
	simulate(p, inv, prof, func(e Event) { events = append(events, e) })
	addLive(p, inv, events)
	return events
}

// addLive fills in, for each call, the activations alive and the weights that are there or on their way.
func addLive(p *Plan, inv *Inventory, events []Event) {
	t := newTimeline(inv)
	change := make([]int, t.end+2)
	t.copies(p, 0, func(c copyOf) {
		n := p.Loads[c.load].Bytes
		change[c.start+1] += n
		change[min(c.done, t.end)+1] -= n
	})
	var tops []int
	for i := range inv.Phases {
		for range inv.Phases[i].Passes {
			for _, c := range inv.Phases[i].Calls {
				tops = append(tops, c.Top)
			}
		}
	}
	weights, pos := 0, 0
	for i := range events {
		if !events[i].Copy && pos < t.end {
			weights += change[pos]
			events[i].Live = weights + tops[pos]
			pos++
		}
	}
}
