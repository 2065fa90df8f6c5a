package layers

import (
	"github.com/euryale-ml/euryale/internal/ops"
	G "gorgonia.org/gorgonia"
)

// Nodes of the denoising loop share one alphabet: N pictures, B rows of the model's batch (N, or 2N with guidance,
// the negative prompts' first), K samples that the scheduler keeps.
//
// What a step is, is Note [Steps as numbers] of package sched.

// ScaleModelInput is what the model sees of the latents: scaled, once per row of its batch.
//
//	state  [K*N H W C]
//	step   [sched.StepSize]
//	result [B H W C]
func ScaleModelInput(s Scope, state, step *G.Node, n, b int) (*G.Node, error) {
	return apply(s.Sub("scale_model_input"), ops.ScaleModelInput{N: n, B: b}, state, step)
}

// SchedulerStep takes the state past a step, with guidance if there are two rows of the model's batch for each picture.
//
//	state  [K*N H W C]
//	model  [B H W C]    the model's output
//	step   [sched.StepSize]
//	noise  [N H W C]    nil if no step adds any
//	result [K*N H W C]
func SchedulerStep(s Scope, state, model, step, noise *G.Node, n int) (*G.Node, error) {
	k := ops.SchedulerStep{N: n, Guided: model.Shape()[0] == 2*n, Noisy: noise != nil}
	in := []*G.Node{state, model, step}
	if k.Guided {
		spread, err := apply(s.Sub("guidance_rescale"), ops.GuidanceSpread{}, model, step)
		if err != nil {
			return nil, err
		}
		in = append(in, spread)
	}
	if k.Noisy {
		in = append(in, noise)
	}
	return apply(s.Sub("step"), k, in...)
}

// NonFinite looks for infinite values and ones that are not numbers.
//
//	a, b   [B H W C]
//	result [2 64]   row 0 has a value that is not 0 if a has one, row 1 if b has one
func NonFinite(s Scope, a, b *G.Node) (*G.Node, error) {
	return apply(s.Sub("non_finite"), ops.NonFinite{}, a, b)
}
