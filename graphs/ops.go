package graphs

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
)

// The forms that an op of a program's own may have beside its Do: see Note [Ops of a program's own].
type (
	// HostForm is an op with a fast form for the processor: Host computes a result from arguments.
	HostForm = program.HostForm
	// Threads are those of the runtime, for a HostForm.
	Threads = program.Threads
	// Array is an argument or result of a HostForm, in row-major order.
	Array = program.Array
	// DeviceForm is an op with kernels for CUDA devices, from the PTX of WithKernels.
	DeviceForm = program.DeviceForm
	// DeviceArray is an argument or result of a DeviceForm, in row-major order in the device's memory.
	DeviceArray = program.DeviceArray
	// Launch is one launch of a kernel.
	Launch = program.Launch
	// Counted is an op whose work strategies and hooks know. A multiply-add is two.
	Counted = program.Counted
	// InPlace is an op with a HostForm or a DeviceForm whose result may lie where an argument does.
	InPlace = program.InPlace
	// AsStored is an op that reads a weight as its source stores it.
	AsStored = program.AsStored
	// InFloat32 is an op with a DeviceForm some of whose arguments are float32 whatever type the device was opened for.
	InFloat32 = program.InFloat32
)

// Params views a struct as the bytes that a kernel gets. It must be laid out as C lays it out.
func Params[T any](p *T) []byte { return device.Params(p) }

// WithKernels brings PTX for the DeviceForm of ops. It has no use on the processor, and is not loaded there.
func WithKernels(ptx ...string) Option {
	return option(func(o *options) { o.kernels = append(o.kernels, ptx...) })
}

// programmable is a device that takes kernels of the user's.
type programmable interface{ AddPTX(text string) error }

// addKernels gives a device the program's own kernels.
func (o *options) addKernels(d device.Device) error {
	p, ok := d.(programmable)
	if !ok && len(o.kernels) > 0 {
		return fmt.Errorf("%s takes no kernels", d.Name())
	}
	for i, text := range o.kernels {
		if err := p.AddPTX(text); err != nil {
			return fmt.Errorf("WithKernels, text %d: %w", i, err)
		}
	}
	return nil
}
