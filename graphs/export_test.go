package graphs

import (
	"context"

	"github.com/euryale-ml/euryale/internal/program"
)

// TraceOps has f called before each operation of the networks that p has run so far; nil ends it.
func TraceOps(p *TextToImage, f func(layer string)) {
	for _, n := range p.networks {
		n.(interface{ traceOps(func(string)) }).traceOps(f)
	}
}

func (vm *VM) traceOps(f func(layer string)) {
	vm.runner.Trace = nil
	if f != nil {
		vm.runner.Trace = func(_ int, c program.Call) { f(c.Layer) }
	}
}

// Closing is closed by Close at once, before it waits for a call under way.
func Closing(p *TextToImage) <-chan struct{} { return p.host.open.Done() }

// Evaluate runs a VM's graph as a pipeline runs a network, in step 0; each as WithFiniteChecks has it.
func Evaluate(vm *VM, each bool) error {
	return network[struct{}]{VM: vm}.evaluate(context.Background(), 0, each)
}
