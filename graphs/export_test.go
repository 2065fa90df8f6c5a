package graphs

import (
	"context"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/offload"
)

// TraceOps has f called before each operation of the networks that p has run so far, or nothing if f is nil.
func TraceOps(p *TextToImage, f func(layer string)) {
	trace := func(vm *VM) {
		if vm == nil || vm.runner == nil {
			return
		}
		vm.runner.Trace = nil
		if f != nil {
			vm.runner.Trace = func(_ int, c program.Call) { f(c.Layer) }
		}
	}
	for _, n := range p.networks {
		switch n := n.(type) {
		case *denoising:
			trace(n.text)
			trace(n.time)
			trace(n.loop)
		case network[texts]:
			trace(n.VM)
		case network[[]float32]:
			trace(n.VM)
		}
	}
}

// Closing is closed by Close at once, before it waits for a call under way.
func Closing(p *TextToImage) <-chan struct{} { return p.host.open.Done() }

// FailAllocations has f asked before each large buffer of p.
func FailAllocations(p *TextToImage, f func(n int) error) { p.host.memory.Fail = f }

// OnCopy calls f before each copy of the host device's copy engine.
func OnCopy(f func()) Option { return func(o *options) { o.onCopy = f } }

// Evaluate runs a VM's graph as a pipeline runs a network, in step 0; each as WithFiniteChecks has it.
func Evaluate(vm *VM, each bool) error { return vm.evaluate(context.Background(), 0, each) }

// MeasureSmall is MeasureProfile with little to do, for a device that is emulated.
func MeasureSmall(o DeviceOption) (offload.Profile, error) { return measureProfile(o, 1, 8, 1<<16) }

// Wrapped is a device seen through f.
func Wrapped(o DeviceOption, f func(device.Device) device.Device) DeviceOption {
	o.wrap = f
	return o
}
