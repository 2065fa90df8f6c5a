package offload

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
)

// Profile is what the simulator knows of a device.
type Profile struct {
	Name    string        `json:"name"`
	FLOPs   float64       `json:"flops"`   // effective, per second, of matrix products in the stored dtype
	Memory  float64       `json:"memory"`  // bytes per second of device memory
	Link    float64       `json:"link"`    // bytes per second from page-locked host memory
	Launch  time.Duration `json:"launch"`  // least time of a call
	Latency time.Duration `json:"latency"` // of a copy, beside its bytes
}

// Profiles of GPUs, without a measurement: half to three fifths of the data sheet's dense fp16 rate with fp32
// accumulation, four fifths of its memory rate; a link of 12, 25 or 50 GB/s for PCIe 3, 4 or 5 with 16 lanes.
func Profiles() []Profile {
	var all []Profile
	for _, gpu := range []struct {
		name          string
		flops, memory float64
		gens          []int
	}{
		{"rtx3060", 15e12, 288e9, []int{3, 4}}, {"rtx3090", 40e12, 750e9, []int{3, 4}}, {"rtx4090", 85e12, 806e9, []int{3, 4}},
		{"l40s", 95e12, 690e9, []int{3, 4}}, {"a100", 160e12, 1600e9, []int{3, 4}}, {"h100", 420e12, 2680e9, []int{4, 5}},
	} {
		for _, gen := range gpu.gens {
			link := map[int]float64{3: 12e9, 4: 25e9, 5: 50e9}[gen]
			all = append(all, Profile{fmt.Sprintf("%s-gen%d", gpu.name, gen), gpu.flops, gpu.memory, link, 4 * time.Microsecond, 10 * time.Microsecond})
		}
	}
	return all
}

// ProfileByName finds one of Profiles.
func ProfileByName(name string) (Profile, error) {
	var names []string
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("offload: no profile %q; there are %s", name, strings.Join(names, ", "))
}

// Check refuses a profile by which nothing can be timed, as the zero value.
func (p Profile) Check() error {
	for _, f := range []struct {
		name  string
		value float64
	}{{"FLOPs", p.FLOPs}, {"Memory", p.Memory}, {"Link", p.Link}} {
		if !(f.value > 0 && f.value <= math.MaxFloat64) {
			return &SettingError{fmt.Sprintf("profile %q", p.Name), fmt.Sprintf("has %s %g, want a rate per second", f.name, f.value)}
		}
	}
	for name, d := range map[string]time.Duration{"Launch": p.Launch, "Latency": p.Latency} {
		if d < 0 {
			return &SettingError{fmt.Sprintf("profile %q", p.Name), fmt.Sprintf("has %s %v", name, d)}
		}
	}
	return nil
}

// call is how long a kernel call takes.
func (p *Profile) call(c *Call, weightBytes int) float64 {
	busy := max(float64(c.FLOPs)/p.FLOPs, (float64(c.Bytes)+float64(weightBytes))/p.Memory)
	return max(busy, p.Launch.Seconds())
}

func (p *Profile) copy(bytes int) float64 { return float64(bytes)/p.Link + p.Latency.Seconds() }

// Forecast is what a plan comes to on a profile. Times are seconds.
type Forecast struct {
	Total    float64     // of one image
	Step     float64     // of the loop's last pass but one: copies of the next already overlap it
	Compute  float64     // of a pass of the loop with everything resident
	Streamed int         // bytes per pass of the loop
	Bound    float64     // max(Compute, Streamed/Link): no plan with these streamed bytes is faster
	Copied   int         // bytes per image
	Stalled  float64     // per image, time that calls waited for copies
	Hidden   float64     // share of the time of copies behind which something was computed
	Rate     float64     // bytes per second while copying
	Stalls   []LayerTime // of the loop's step, the longest first
}

// LayerTime is how long a layer waited in a step.
type LayerTime struct {
	Layer   string
	Seconds float64
}

// Simulate runs a plan on a clock: one compute engine, one copy engine, one link. The plan must be proven and the profile
// checked: else the clock means nothing.
func Simulate(p *Plan, inv *Inventory, prof Profile) *Forecast {
	return simulate(p, inv, prof, nil)
}

// simulate tells see, if it is not nil, of every call and copy.
func simulate(p *Plan, inv *Inventory, prof Profile, see func(Event)) *Forecast {
	seconds := func(s float64) time.Duration { return time.Duration(s * 1e9) }
	t := newTimeline(inv)
	var copies []copyOf
	t.copies(p, 0, func(c copyOf) { copies = append(copies, c) })
	copyTime := make([]float64, len(p.Loads))
	for i, l := range p.Loads {
		copyTime[i] = prof.copy(inv.bytes(l.Weights))
	}
	loop := inv.loop()
	f := &Forecast{}
	_, perPass := p.Uploaded(inv)
	f.Streamed = perPass[loop]

	end := make([]float64, t.end) // of each call
	var now, copied, copyBusy float64
	next, pos := 0, 0
	stalls := map[string]float64{}
	for ph := range inv.Phases {
		phase := &inv.Phases[ph]
		cost := make([]float64, len(phase.Calls))
		for i := range phase.Calls {
			cost[i] = prof.call(&phase.Calls[i], inv.bytes(phase.Calls[i].Weights))
			if ph == loop {
				f.Compute += cost[i]
			}
		}
		for pass := range phase.Passes {
			begin := now
			measured := ph == loop && pass == max(0, phase.Passes-2)
			for c := range phase.Calls {
				ready := now
				for ; next < len(copies) && copies[next].need <= pos; next++ {
					if s := copies[next].start; s >= 0 {
						copied = max(copied, end[s])
					}
					d := copyTime[copies[next].load]
					if see != nil {
						l := &p.Loads[copies[next].load]
						see(Event{Name: inv.Weights[l.Weights[0]].Name, Copy: true, Begin: seconds(copied), End: seconds(copied + d), Bytes: inv.bytes(l.Weights)})
					}
					copied += d
					copyBusy += d
					f.Copied += inv.bytes(p.Loads[copies[next].load].Weights)
					ready = max(ready, copied)
				}
				f.Stalled += ready - now
				if measured && ready > now {
					stalls[phase.Calls[c].Layer] += ready - now
				}
				now = ready + cost[c]
				if see != nil {
					see(Event{Name: phase.Calls[c].Layer, Begin: seconds(ready), End: seconds(now)})
				}
				end[pos] = now
				pos++
			}
			if measured {
				f.Step = now - begin
			}
		}
	}
	f.Total = now
	f.Bound = max(f.Compute, float64(f.Streamed)/prof.Link)
	if copyBusy > 0 {
		f.Hidden = max(0, 1-f.Stalled/copyBusy)
		f.Rate = float64(f.Copied) / copyBusy
	}
	for l, s := range stalls {
		f.Stalls = append(f.Stalls, LayerTime{l, s})
	}
	sort.Slice(f.Stalls, func(i, j int) bool { return f.Stalls[i].Seconds > f.Stalls[j].Seconds })
	return f
}

// loop is the phase with the most passes: the UNet's.
func (inv *Inventory) loop() int {
	best := 0
	for i, p := range inv.Phases {
		if p.Passes > inv.Phases[best].Passes || p.Passes == inv.Phases[best].Passes && len(p.Calls) > len(inv.Phases[best].Calls) {
			best = i
		}
	}
	return best
}

// short is the inventory with at most n passes of each phase: what a step takes is the same, and the planner
// looks at many plans.
func (inv *Inventory) short(n int) *Inventory {
	s := &Inventory{Weights: inv.Weights, Phases: slices.Clone(inv.Phases)}
	for i := range s.Phases {
		s.Phases[i].Passes = min(n, s.Phases[i].Passes)
	}
	return s
}
