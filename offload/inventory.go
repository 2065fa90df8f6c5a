package offload

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Inventory is what a pipeline will run, in execution order, and what each part of it takes. Sizes are bytes as
// the device stores them.
//
// It must not change, or be copied, once a strategy has seen it. Strategies may plan one Inventory from several
// goroutines.
type Inventory struct {
	Weights []Weight `json:"weights"`
	Phases  []Phase  `json:"phases"`

	known atomic.Pointer[known]
}

// Weight is one tensor of a checkpoint.
type Weight struct {
	Name  string `json:"name"` // component and checkpoint key: unet.conv_in.weight
	Bytes int    `json:"bytes"`
}

// Phase is one compiled graph and how often it runs before the next: the UNet's takes a pass per step.
type Phase struct {
	Component   string `json:"component"`
	Name        string `json:"name"` // what of the component runs: "", or a part such as "context" of the UNet
	Passes      int    `json:"passes"`
	Activations int    `json:"activations"` // the arena for activations, inputs and outputs
	Calls       []Call `json:"calls"`
}

// Title names the phase.
func (p *Phase) Title() string {
	if p.Name == "" {
		return p.Component
	}
	return p.Component + " " + p.Name
}

// Call is one kernel call.
type Call struct {
	Layer   string `json:"layer"`             // checkpoint name
	FLOPs   int64  `json:"flops,omitempty"`   // of matrix products, convolutions, attention
	Bytes   int64  `json:"bytes,omitempty"`   // of activations read and written
	Weights []int  `json:"weights,omitempty"` // read, as indices of Inventory.Weights

	// Top is the end of the activations that are alive during the call: above it, up to the phase's Activations,
	// memory is free.
	Top int `json:"top"`
}

// use is when a phase reads a weight: its first and last call.
type use struct{ first, last int }

// known is what follows from an Inventory and is asked for again and again.
type known struct {
	phases []reads // of each phase

	mu       sync.Mutex         // over what follows
	searches map[string]*search // what Auto has tried, by profile and what is fixed
}

// reads are the weights that a phase reads.
type reads struct {
	uses  map[int]use
	order []int // by first use
}

// derived is made by whoever asks first.
func (inv *Inventory) derived() *known {
	if k := inv.known.Load(); k != nil {
		return k
	}
	k := &known{searches: map[string]*search{}}
	for i := range inv.Phases {
		k.phases = append(k.phases, inv.Phases[i].reads())
	}
	inv.known.CompareAndSwap(nil, k)
	return inv.known.Load()
}

// uses lists the weights a phase reads.
func (inv *Inventory) uses(phase int) map[int]use { return inv.derived().phases[phase].uses }

// order lists the weights a phase reads by first use.
func (inv *Inventory) order(phase int) []int { return inv.derived().phases[phase].order }

func (p *Phase) reads() reads {
	r := reads{uses: map[int]use{}}
	for i, c := range p.Calls {
		for _, w := range c.Weights {
			u, ok := r.uses[w]
			if !ok {
				u.first = i
				r.order = append(r.order, w)
			}
			u.last = i
			r.uses[w] = u
		}
	}
	return r
}

// bytes is what a set of weights takes, each aligned.
func (inv *Inventory) bytes(weights []int) int {
	n := 0
	for _, w := range weights {
		n += align(inv.Weights[w].Bytes)
	}
	return n
}

// WeightBytes is what all weights of a component take; of all components if it is empty.
func (inv *Inventory) WeightBytes(component string) int {
	n := 0
	for _, w := range inv.Weights {
		if component == "" || strings.HasPrefix(w.Name, component+".") {
			n += align(w.Bytes)
		}
	}
	return n
}

// groups are the runs of neighbouring phases of one component: [from,to) each.
func (inv *Inventory) groups() (g [][2]int) {
	for i := range inv.Phases {
		if i > 0 && inv.Phases[i].Component == inv.Phases[i-1].Component {
			g[len(g)-1][1] = i + 1
		} else {
			g = append(g, [2]int{i, i + 1})
		}
	}
	return g
}

// match returns the weights under any of names, which are components, layers or single tensors. A name that
// matches nothing is an error that gives the nearest ones.
func (inv *Inventory) match(names []string) (map[int]bool, error) {
	set := map[int]bool{}
	for _, name := range names {
		found := false
		for i, w := range inv.Weights {
			if w.Name == name || strings.HasPrefix(w.Name, name+".") {
				set[i], found = true, true
			}
		}
		if !found {
			return nil, &NameError{Name: name, Nearest: inv.nearest(name)}
		}
	}
	return set, nil
}

// nearest returns up to three names of layers that differ least from name.
func (inv *Inventory) nearest(name string) []string {
	distance := map[string]int{}
	for _, w := range inv.Weights {
		for at := w.Name; at != ""; {
			if _, ok := distance[at]; !ok {
				distance[at] = editDistance(at, name)
			}
			dot := strings.LastIndexByte(at, '.')
			if dot < 0 {
				break
			}
			at = at[:dot]
		}
	}
	var all []string
	for n := range distance {
		all = append(all, n)
	}
	sort.Slice(all, func(i, j int) bool {
		if distance[all[i]] != distance[all[j]] {
			return distance[all[i]] < distance[all[j]]
		}
		return all[i] < all[j]
	})
	return all[:min(3, len(all))]
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// NameError reports a name given to Keep or Exclude that no weight has.
type NameError struct {
	Name    string
	Nearest []string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("offload: no layer is named %q; nearest are %s", e.Name, strings.Join(e.Nearest, ", "))
}

// BudgetError reports a budget that no plan of the strategy fits.
type BudgetError struct {
	Layer    string // where the most is needed
	Need     int    // by the strategy, with the options given
	Have     int
	Smallest int // budget that works with Sequential

	curve func() []CurvePoint
}

// Curve is what budgets that work give: Auto's prediction at five of them, from the smallest to everything resident.
func (e *BudgetError) Curve() []CurvePoint {
	if e.curve == nil {
		return nil
	}
	return e.curve()
}

func (e *BudgetError) Error() string {
	s := fmt.Sprintf("offload: %s needs %s with its activations, the budget is %s; the smallest that works is %s", e.Layer, mib(e.Need), mib(e.Have), mib(e.Smallest))
	for i, p := range e.Curve() {
		if i == 0 {
			s += "\npredicted per step:"
		}
		s += fmt.Sprintf("  %s %.3g s", mib(p.Budget), p.Step)
	}
	return s
}

// mib prints bytes, rounded up so that the number works as a budget.
func mib(n int) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d KiB", (n+1<<10-1)>>10)
	}
	return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
}

// Align is the alignment of everything placed in device memory.
const Align = 256

// AlignUp is the room that n bytes take.
func AlignUp(n int) int { return (n + Align - 1) / Align * Align }

func align(n int) int { return AlignUp(n) }
