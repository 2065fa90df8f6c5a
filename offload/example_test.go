package offload_test

import (
	"fmt"

	"github.com/euryale-ml/euryale/offload"
)

// halfHeld holds every second weight of the UNet while it runs and streams the others: a strategy of one's own is a
// Spec. If it were wrong, Verify would say so before anything ran.
type halfHeld struct{}

func (halfHeld) Name() string { return "half held" }

func (h halfHeld) Plan(inv *offload.Inventory) (*offload.Plan, error) {
	spec := offload.Spec{Stays: map[int]offload.Residence{}, Window: 1 << 20, Ahead: true}
	for w := range inv.Weights {
		if w%2 == 0 {
			spec.Stays[w] = offload.Held
		}
	}
	return offload.Build(inv, h.Name(), spec)
}

func ExampleStrategy() {
	inv := &offload.Inventory{Phases: []offload.Phase{{Component: "unet", Passes: 20}}}
	for i := range 8 {
		inv.Weights = append(inv.Weights, offload.Weight{Name: fmt.Sprintf("unet.block%d.weight", i), Bytes: 1 << 20})
		inv.Phases[0].Calls = append(inv.Phases[0].Calls, offload.Call{Layer: fmt.Sprintf("unet.block%d", i), FLOPs: 1e9, Weights: []int{i}})
	}
	plan, err := halfHeld{}.Plan(inv)
	if err != nil {
		panic(err)
	}
	once, perPass := plan.Uploaded(inv)
	fmt.Println(offload.Verify(plan, inv), plan.Peak>>20, once>>20, perPass[0]>>20)
	// Output: <nil> 6 4 4
}
