// Command strategies compares a strategy of the program's own with Auto, over ten budgets and all known devices, and
// prints a table as CSV. The strategy holds what the loop reads last, as a cache without a plan would end up doing.
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// lastUsed holds as many of the weights that the loop reads last as fit a budget, and streams the others.
type lastUsed struct{ budget int }

func (lastUsed) Name() string { return "last-used" }

func (s lastUsed) Plan(inv *offload.Inventory) (*offload.Plan, error) {
	stays := map[int]offload.Residence{}
	plan, err := offload.Build(inv, s.Name(), offload.Spec{Stays: stays})
	if err != nil {
		return nil, err
	}
	if plan.Peak > s.budget {
		return nil, &offload.BudgetError{Layer: "the largest", Need: plan.Peak, Have: s.budget, Smallest: plan.Peak}
	}
	loop := &inv.Phases[0]
	for i := range inv.Phases {
		if inv.Phases[i].Passes > loop.Passes {
			loop = &inv.Phases[i]
		}
	}
	for c := len(loop.Calls) - 1; c >= 0; c-- {
		for _, w := range loop.Calls[c].Weights {
			stays[w] = offload.Held
		}
		larger, err := offload.Build(inv, s.Name(), offload.Spec{Stays: stays, Ahead: true})
		if err != nil {
			return nil, err
		}
		if larger.Peak > s.budget {
			break
		}
		plan = larger
	}
	return plan, nil
}

func main() {
	m, err := loader.Tiny()
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	inv, err := p.Inventory(pipeline.Request{NumInferenceSteps: 20})
	if err != nil {
		log.Fatal(err)
	}
	out := csv.NewWriter(os.Stdout)
	out.Write([]string{"profile", "budget KiB", "strategy", "peak KiB", "ms a step", "s an image"})
	low, high := offload.Smallest(inv), 12<<20
	for _, prof := range offload.Profiles() {
		for i := range 10 {
			budget := low + (high-low)*i/9
			for _, s := range []offload.Strategy{lastUsed{budget}, offload.Auto(budget, offload.On(prof))} {
				plan, err := s.Plan(inv)
				if errors.As(err, new(*offload.BudgetError)) {
					continue
				}
				if err == nil {
					err = offload.Verify(plan, inv)
				}
				if err != nil {
					log.Fatal(err)
				}
				f := offload.Simulate(plan, inv, prof)
				out.Write([]string{prof.Name, fmt.Sprint(budget >> 10), s.Name(), fmt.Sprint(plan.Peak >> 10),
					fmt.Sprintf("%.4f", 1e3*f.Step), fmt.Sprintf("%.5f", f.Total)})
			}
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		log.Fatal(err)
	}
}
