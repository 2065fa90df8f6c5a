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

// evaluate runs a network and refuses results that are not finite. If each is set, those of every operation
// are looked at; if not, only the network's, and it runs once more to find the layer at fault. A plan runs every
// network as often as it says: there the layer is the one whose result was wanted.
func (vm *VM) evaluate(ctx context.Context, step int, each bool) error {
	if each {
		return vm.checked(ctx, step)
	}
	if err := vm.run(ctx); err != nil {
		return err
	}
	layer := vm.nonFinite()
	if layer == "" {
		return nil
	}
	if vm.host.session == nil {
		if err := vm.checked(ctx, step); err != nil {
			return err
		}
	}
	return &NonFiniteError{step, layer}
}

// nonFinite is the layer of the first output that is not finite, or nothing.
func (vm *VM) nonFinite() string {
	if vm.faulty != nil {
		return vm.faulty()
	}
	for i := range vm.outputs {
		if !finite(vm.runner.Output(i).F32()) { // of one that stays on a device, the readers' results are looked at
			return vm.outputs[i].Name()
		}
	}
	return ""
}

// checked runs the network up to the first operation whose result is not finite.
func (vm *VM) checked(ctx context.Context, step int) error {
	vm.after = func(_ int, c program.Call, out program.Arg) error {
		if out.DType != dtype.F32 || finite(out.F32()) {
			return nil
		}
		return &NonFiniteError{step, c.Layer}
	}
	defer func() { vm.after = nil }()
	return vm.run(ctx)
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
