package offload_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/euryale-ml/euryale/offload"
)

// made is an inventory like a pipeline's: an encoder, a loop with skips, a decoder, weights of all sizes.
func made(rng *rand.Rand) *offload.Inventory {
	inv := &offload.Inventory{}
	for p, component := range []string{"text_encoder", "unet", "vae"} {
		ph := offload.Phase{Component: component, Passes: []int{1, 2 + rng.IntN(6), 1 + rng.IntN(3)}[p], Activations: 256 * (10 + rng.IntN(200))}
		for c := range 5 + rng.IntN(30) {
			call := offload.Call{Layer: fmt.Sprintf("%s.layer%d", component, c), FLOPs: rng.Int64N(1e9), Bytes: rng.Int64N(1e6), Top: rng.IntN(ph.Activations + 1)}
			for w := range rng.IntN(3) {
				inv.Weights = append(inv.Weights, offload.Weight{Name: fmt.Sprintf("%s.w%d", call.Layer, w), Bytes: 1 + rng.IntN(20000)})
				call.Weights = append(call.Weights, len(inv.Weights)-1)
			}
			if rng.IntN(8) == 0 && len(ph.Calls) > 0 && len(ph.Calls[0].Weights) > 0 {
				call.Weights = append(call.Weights, ph.Calls[0].Weights[0]) // a shared weight
			}
			ph.Calls = append(ph.Calls, call)
		}
		inv.Phases = append(inv.Phases, ph)
	}
	return inv
}

func strategies(inv *offload.Inventory, rng *rand.Rand) []offload.Strategy {
	low := offload.Smallest(inv)
	return []offload.Strategy{
		offload.None(), offload.Model(), offload.Sequential(), offload.Sequential(offload.Prefetch(1)),
		offload.Sequential(offload.Prefetch(1 + rng.IntN(200000))), offload.Group(1 + rng.IntN(5)),
		offload.Group(3, offload.Prefetch(1+rng.IntN(100000))), offload.Auto(low + rng.IntN(low)),
		offload.Sequential(offload.Keep("unet.layer1"), offload.Exclude("vae.layer0")),
	}
}

// each runs body on plans of many inventories and strategies.
func each(t *testing.T, n int, body func(inv *offload.Inventory, p *offload.Plan, rng *rand.Rand)) {
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 0))
		inv := made(rng)
		for _, s := range strategies(inv, rng) {
			p, err := s.Plan(inv)
			var name *offload.NameError
			if errors.As(err, &name) {
				continue // that layer has no weights here
			}
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, s.Name(), err)
			}
			body(inv, p, rng)
		}
	}
}

// TestPlansRun: every plan verifies, and running it on memory, call by call with copies as early and as late as
// its waits allow, every call finds the bytes of its weights.
func TestPlansRun(t *testing.T) {
	each(t, 150, func(inv *offload.Inventory, p *offload.Plan, rng *rand.Rand) {
		if err := offload.Verify(p, inv); err != nil {
			t.Fatalf("%s: %v", p.Strategy, err)
		}
		for _, late := range []bool{false, true} {
			if err := run(p, inv, late); err != nil {
				t.Fatalf("%s, copies late %v: %v", p.Strategy, late, err)
			}
		}
	})
}

// run executes a plan without threads. Memory holds, per 256 bytes, who wrote it last. Copies are made as soon as
// their waits are over, or only when a call needs them.
func run(p *offload.Plan, inv *offload.Inventory, late bool) error {
	memory := make([]int, p.Peak/256+1)
	fill := func(offset, n, with int) {
		for i := offset / 256; i < (offset+n+255)/256; i++ {
			memory[i] = with
		}
	}
	done := map[[2]int]int{} // phase, call: times it has run
	type pending struct{ load, pass int }
	var queue []pending
	for i := 0; i < len(p.Loads); {
		ph := p.Loads[i].Phase
		j := i
		for j < len(p.Loads) && p.Loads[j].Phase == ph {
			j++
		}
		for pass := range inv.Phases[ph].Passes {
			for k := i; k < j; k++ {
				if pass == 0 || p.Loads[k].Stays == offload.Streamed {
					queue = append(queue, pending{k, pass})
				}
			}
		}
		i = j
	}
	ready := func(q pending) bool {
		l := &p.Loads[q.load]
		for _, w := range l.Waits {
			times := q.pass
			switch {
			case w.Phase < l.Phase:
				times = inv.Phases[w.Phase].Passes
			case w.Call < l.First:
				times++
			}
			if done[[2]int{w.Phase, w.Call}] < times {
				return false
			}
		}
		return true
	}
	copyNext := func() {
		l := &p.Loads[queue[0].load]
		at := l.Offset
		for _, w := range l.Weights {
			fill(at, inv.Weights[w].Bytes, 1+w)
			at += (inv.Weights[w].Bytes + 255) / 256 * 256
		}
		queue = queue[1:]
	}
	for ph := range inv.Phases {
		for pass := range inv.Phases[ph].Passes {
			for c, call := range inv.Phases[ph].Calls {
				for len(queue) > 0 && ready(queue[0]) {
					next := p.Loads[queue[0].load]
					if late && (next.Phase != ph || queue[0].pass != pass || next.First > c) {
						break
					}
					copyNext()
				}
				fill(p.Phases[ph].Offset, call.Top, -1)
				for _, w := range call.Weights {
					if err := holds(p, inv, memory, ph, w); err != nil {
						return fmt.Errorf("pass %d, %s: %w", pass, call.Layer, err)
					}
				}
				done[[2]int{ph, c}]++
			}
		}
	}
	return nil
}

func holds(p *offload.Plan, inv *offload.Inventory, memory []int, phase, weight int) error {
	for i := range p.Loads {
		l := &p.Loads[i]
		if phase < l.Phase || phase > l.Until && l.Stays != offload.Kept {
			continue
		}
		at := l.Offset
		for _, w := range l.Weights {
			n := inv.Weights[w].Bytes
			if w == weight {
				for k := at / 256; k < (at+n+255)/256; k++ {
					if memory[k] != 1+w {
						return fmt.Errorf("%s is not in its place", inv.Weights[w].Name)
					}
				}
				return nil
			}
			at += (n + 255) / 256 * 256
		}
	}
	return fmt.Errorf("%s has no place", inv.Weights[weight].Name)
}

// TestMutatedPlans changes plans at random. A change that Verify lets pass must be harmless: the plan still runs.
func TestMutatedPlans(t *testing.T) {
	caught, passed := 0, 0
	each(t, 60, func(inv *offload.Inventory, p *offload.Plan, rng *rand.Rand) {
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		for range 12 {
			q, err := offload.ReadPlan(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			what := mutate(q, rng)
			if what == "" || reflect.DeepEqual(p, q) {
				continue
			}
			if err := offload.Verify(q, inv); err != nil {
				var e *offload.PlanError
				if !errors.As(err, &e) {
					t.Fatalf("%s: error %T", what, err)
				}
				caught++
				continue
			}
			passed++
			for _, late := range []bool{false, true} {
				if err := run(q, inv, late); err != nil {
					t.Fatalf("%s: %s passes Verify, and then: %v", p.Strategy, what, err)
				}
			}
		}
	})
	t.Logf("%d mutants caught, %d harmless", caught, passed)
	if caught < 1000 {
		t.Errorf("only %d mutants were caught", caught)
	}
}

// mutate makes one change and says what.
func mutate(p *offload.Plan, rng *rand.Rand) string {
	if len(p.Loads) < 2 {
		return ""
	}
	i, j := rng.IntN(len(p.Loads)), rng.IntN(len(p.Loads))
	a, b := &p.Loads[i], &p.Loads[j]
	switch rng.IntN(9) {
	case 0:
		a.Waits = nil
		return "a load's waits are dropped"
	case 1:
		if len(a.Waits) == 0 {
			return ""
		}
		a.Waits[0].Call = max(0, a.Waits[0].Call-1-rng.IntN(3))
		return "a load waits for an earlier call"
	case 2:
		a.Offset, b.Offset = b.Offset, a.Offset
		return "two offsets are swapped"
	case 3:
		a.Bytes -= 256
		return "a slot is smaller"
	case 4:
		a.Offset += 256 * (1 - 2*rng.IntN(2))
		return "a slot is moved"
	case 5:
		p.Loads[i], p.Loads[j] = *b, *a
		return "two copies change places"
	case 6:
		p.Peak += 256 * (1 - 2*rng.IntN(2))
		return "the peak is another"
	case 7:
		a.Last = max(a.First, a.Last-1)
		return "a load is given up a call early"
	}
	a.Weights = a.Weights[1:]
	return "a weight is left out"
}

func TestPlanText(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	inv := made(rng)
	p, err := offload.Sequential(offload.Prefetch(50000)).Plan(inv)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := p.WriteTable(&table, inv); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"text_encoder", "unet", "vae", "streamed per pass", "peak"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
	for _, bad := range []string{"", "[]", `{"peak": "much"}`, `{"unknown": 1}`, `{"loads": [{"stays": "for a while"}]}`} {
		if _, err := offload.ReadPlan(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read as a plan", bad)
		}
	}
	if _, err := offload.ReadPlan(strings.NewReader(strings.Repeat(" ", 33<<20) + "{}")); err == nil || !strings.Contains(err.Error(), "its text is longer") {
		t.Errorf("a plan of 33 MiB: %v", err)
	}
}

func FuzzReadPlan(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	inv := made(rng)
	for _, s := range strategies(inv, rng) {
		if p, err := s.Plan(inv); err == nil {
			text, _ := json.Marshal(p)
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := offload.ReadPlan(bytes.NewReader(text))
		if err != nil || offload.Verify(p, inv) != nil || p.Peak > 1<<28 {
			return
		}
		if err := run(p, inv, false); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAutoIsMonotone: more memory is never slower.
func TestAutoIsMonotone(t *testing.T) {
	for seed := range 10 {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		inv := made(rng)
		prof, _ := offload.ProfileByName("rtx3060-gen3")
		prof.FLOPs = 1e9 * float64(1+rng.IntN(1000))
		last := 0.0
		curve := offload.Curve(inv, prof, 40)
		for i, c := range curve {
			if i > 0 && c.Total > last*1.0001 { // a picture's time is what counts; a step may give way to what is around it
				t.Errorf("seed %d: %d bytes take %v s, %d took %v s", seed, c.Budget, c.Total, curve[i-1].Budget, last)
			}
			last = c.Total
		}
		if len(curve) != 40 {
			t.Errorf("seed %d: %d of 40 budgets work", seed, len(curve))
		}
	}
}

// A phase whose activations are large does not keep the loop from its window: with just what that phase takes the loop
// hides its copies as well as with much more.
func TestPhasesDoNotShareAWindow(t *testing.T) {
	inv := &offload.Inventory{}
	unet := offload.Phase{Component: "unet", Passes: 20, Activations: 200 << 20}
	for i := range 40 {
		inv.Weights = append(inv.Weights, offload.Weight{Name: fmt.Sprintf("unet.%d.weight", i), Bytes: 40 << 20})
		unet.Calls = append(unet.Calls, offload.Call{Layer: fmt.Sprint("unet.", i), Weights: []int{i}, FLOPs: 200e9, Top: 200 << 20})
	}
	vae := offload.Phase{Component: "vae", Passes: 1, Activations: 1 << 30}
	for i := range 10 {
		inv.Weights = append(inv.Weights, offload.Weight{Name: fmt.Sprintf("vae.%d.weight", i), Bytes: 4 << 20})
		vae.Calls = append(vae.Calls, offload.Call{Layer: fmt.Sprint("vae.", i), Weights: []int{40 + i}, FLOPs: 200e9, Top: 1 << 30})
	}
	inv.Phases = []offload.Phase{unet, vae}
	prof, err := offload.ProfileByName("rtx4090-gen4")
	if err != nil {
		t.Fatal(err)
	}
	least := offload.Smallest(inv)
	time := func(budget int) float64 {
		p, err := offload.Make(offload.Auto(budget, offload.On(prof)), inv)
		if err != nil {
			t.Fatal(err)
		}
		if p.Peak > budget {
			t.Errorf("%d bytes of %d", p.Peak, budget)
		}
		return offload.Simulate(p, inv, prof).Total
	}
	if exact, more := time(least), time(least+300<<20); exact > 1.01*more {
		t.Errorf("%.4g s with the smallest budget, %.4g s with 300 MiB more", exact, more)
	}
}

// TestSimulator checks the clock on a pipeline small enough to do by hand.
func TestSimulator(t *testing.T) {
	// Two layers of a second each, weights that take half a second to copy each, three passes.
	inv := &offload.Inventory{
		Weights: []offload.Weight{{Name: "unet.a.weight", Bytes: 256 << 10}, {Name: "unet.b.weight", Bytes: 256 << 10}},
		Phases: []offload.Phase{{Component: "unet", Passes: 3, Activations: 256, Calls: []offload.Call{
			{Layer: "unet.a", FLOPs: 100, Weights: []int{0}, Top: 256}, {Layer: "unet.b", FLOPs: 100, Weights: []int{1}, Top: 256}}}},
	}
	prof := offload.Profile{FLOPs: 100, Memory: 1e12, Link: 512 << 10}
	for _, c := range []struct {
		s     offload.Strategy
		total float64
		peak  int
	}{
		{offload.None(), 0.5 + 6, 256 + 512<<10 + 0},                      // the first copy shows, the second hides (one load of both: two copies' time)
		{offload.Sequential(), 6*0.5 + 6, 256 + 256<<10},                  // nothing hides
		{offload.Sequential(offload.Prefetch(1)), 0.5 + 6, 256 + 512<<10}, // all but the first hide
	} {
		p, err := c.s.Plan(inv)
		if err != nil {
			t.Fatal(err)
		}
		f := offload.Simulate(p, inv, prof)
		want := c.total
		if c.s.Name() == "none" {
			want = 1 + 6 // both weights come as one copy
		}
		if d := f.Total - want; d > 1e-9 || d < -1e-9 {
			t.Errorf("%s: %v s, want %v", c.s.Name(), f.Total, want)
		}
		if p.Peak != c.peak {
			t.Errorf("%s: peak %d, want %d", c.s.Name(), p.Peak, c.peak)
		}
	}
}

// Strategies plan one inventory from many goroutines, and make the plans that they make alone.
func TestPlansFromManyGoroutines(t *testing.T) {
	inv := made(rand.New(rand.NewPCG(5, 0)))
	low := offload.Smallest(made(rand.New(rand.NewPCG(5, 0))))
	profiles := []string{"rtx4090-gen4", "rtx3060-gen3"}
	plans := make([][]*offload.Plan, 8)
	var group sync.WaitGroup
	for g := range plans {
		group.Go(func() {
			for i := range 50 {
				prof, err := offload.ProfileByName(profiles[i%2])
				if err != nil {
					t.Error(err)
					return
				}
				p, err := offload.Auto(low+i*low/25, offload.On(prof)).Plan(inv)
				if err != nil {
					t.Error(err)
				}
				plans[g] = append(plans[g], p)
			}
		})
	}
	group.Wait()
	for g := range plans {
		if !reflect.DeepEqual(plans[g], plans[0]) {
			t.Errorf("goroutine %d made other plans", g)
		}
	}
}
