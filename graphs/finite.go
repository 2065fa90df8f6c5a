package graphs

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/program"
)

// ErrNonFinite is what every *NonFiniteError wraps.
var ErrNonFinite = errors.New("not finite")

// NonFiniteError reports an infinite value or one that is not a number: it would have become a black picture.
type NonFiniteError struct {
	Step  int    // of the denoising loop; -1 outside of it: in a text encoder, what no step changes, or the VAE. On a CUDA device what no step changes is seen in step 0
	Layer string // the first whose result is not finite, by checkpoint name
}

func (e *NonFiniteError) Error() string {
	where := ""
	if e.Step >= 0 {
		where = fmt.Sprintf(" in step %d", e.Step+1)
	}
	return fmt.Sprintf("the result of %s%s is %v", e.Layer, where, ErrNonFinite)
}

// Unwrap is ErrNonFinite.
func (e *NonFiniteError) Unwrap() error { return ErrNonFinite }

// checkOutputs refuses results that are not finite. Without a plan the graph runs once more to find the layer at fault;
// a plan runs every graph as often as it says: there the layer is the one whose result was wanted.
func (s *Stage) checkOutputs(ctx context.Context, r *program.Runner) error {
	layer := s.faulty(r)
	if layer == "" {
		return nil
	}
	if !r.Offloaded() {
		if err := checked(ctx, r); err != nil {
			return err
		}
	}
	return &NonFiniteError{-1, layer}
}

// faulty is the layer of the first output that is not finite, or nothing.
func (s *Stage) faulty(r *program.Runner) string {
	if s.Faulty != nil {
		return s.Faulty()
	}
	for i, n := range s.VM.outputs {
		// Of one that stays on a device, the results of its readers are looked at.
		if a := r.Output(i); a.DType == dtype.F32 && !finite(a.F32()) {
			return n.Name()
		}
	}
	return ""
}

// checked runs a graph up to the first operation whose result is not finite.
func checked(ctx context.Context, r *program.Runner) error {
	return r.Run(ctx, program.Pass{Watch: checks{runner: r}})
}

// checks is a watcher that ends a run at the first result that is not finite.
type checks struct {
	program.Unwatched
	runner *program.Runner
}

func (checks) Looks(int) bool { return true }

func (c checks) See(i int) error {
	call := c.runner.Program().Calls[i]
	out, err := c.runner.Read(call.Out)
	if err != nil || out.DType != dtype.F32 || finite(out.F32()) {
		return err
	}
	return &NonFiniteError{-1, call.Layer}
}

// finite reports whether no element is infinite or not a number.
func finite(x []float32) bool {
	for _, v := range x {
		if math.IsInf(float64(v), 0) || v != v {
			return false
		}
	}
	return true
}
