package pipeline

import (
	"context"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/offload"
)

// Inventory is what a request will run, as strategies see it. Nothing is loaded.
func (p *TextToImage) Inventory(req Request) (inv *offload.Inventory, err error) {
	defer stack.Add(&err)
	j, err := p.NewJob(req)
	if err != nil {
		return nil, err
	}
	stages, err := j.Stages()
	if err != nil {
		return nil, err
	}
	return p.Runtime.Inventory(context.Background(), stages)
}

// Plan makes the plan for a request without running it.
func (p *TextToImage) Plan(req Request, s offload.Strategy) (plan *offload.Plan, inv *offload.Inventory, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	j, err := p.NewJob(req)
	if err != nil {
		return nil, nil, err
	}
	err = j.fitTiles(true, func(stages []graphs.Stage) error {
		if inv, err = p.Runtime.Inventory(context.Background(), stages); err != nil {
			return err
		}
		plan, err = offload.Make(s, inv)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return plan, inv, nil
}
