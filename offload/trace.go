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

// addLive fills in, for each call, what is alive.
func addLive(p *Plan, inv *Inventory, events []Event) {
	live, pos := p.Live(inv), 0
	for i := range events {
		if !events[i].Copy && pos < len(live) {
			events[i].Live = live[pos]
			pos++
		}
	}
}

// Live is, for each call by its Position, the bytes of the arena that hold something during it: activations, and weights
// that are there or on their way. Places between them that nothing fits are not among them.
func (p *Plan) Live(inv *Inventory) []int {
	t := newTimeline(inv)
	change := make([]int, t.end+2)
	t.copies(p, 0, func(c copyOf) {
		n := p.Loads[c.load].Bytes
		change[c.start+1] += n
		change[min(c.done, t.end)+1] -= n
	})
	live := make([]int, 0, t.end)
	weights := 0
	for i := range inv.Phases {
		for range inv.Phases[i].Passes {
			for _, c := range inv.Phases[i].Calls {
				weights += change[len(live)]
				live = append(live, weights+c.Top)
			}
		}
	}
	return live
}

// fullest is the layer of the call with which the most is alive.
func (p *Plan) fullest(inv *Inventory) (layer string) {
	live, pos, most := p.Live(inv), 0, -1
	for i := range inv.Phases {
		for range inv.Phases[i].Passes {
			for _, c := range inv.Phases[i].Calls {
				if live[pos] > most {
					layer, most = c.Layer, live[pos]
				}
				pos++
			}
		}
	}
	return layer
}
