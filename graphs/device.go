package graphs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/cuda"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
)

// DeviceOption says what runs the graphs.
type DeviceOption struct {
	// Name is "cpu", the default, or "cuda:0" and so on. There is no falling back from one to the other.
	Name string
	// DType is "f16", the default, "bf16" or "f32": what a CUDA device stores activations and matrices in. Sums,
	// norms and softmax are float32 always, and so is SDXL's VAE where it asks for force_upcast and DType is f16: its
	// products are then TF32 on tensor cores, as PyTorch's convolutions are. The CPU computes in float32.
	DType string

	described bool // see ForPlanning
}

// ForPlanning makes a runtime or pipeline for Plan and Inventory alone, with the sizes that they have on a CUDA device, where
// there is none: one of 128 processors with tensor cores. dtype is as in DeviceOption.
func ForPlanning(dtype string) Option {
	return option(func(o *options) { o.device = DeviceOption{DType: dtype, described: true} })
}

// errPlanning is the error of a run of such a runtime.
var errPlanning = errors.New("opened for planning: there is no device to run on")

// open returns nil for the processor.
func (o DeviceOption) open() (device.Device, dtype.Type, error) {
	t, ok := map[string]dtype.Type{"": dtype.F16, "f16": dtype.F16, "bf16": dtype.BF16, "f32": dtype.F32}[o.DType]
	if !ok {
		return nil, t, fmt.Errorf("dtype %q is not one of f16, bf16, f32", o.DType)
	}
	if o.described {
		return nil, t, nil
	}
	if o.Name == "" || o.Name == "cpu" {
		if o.DType != "" && t != dtype.F32 {
			return nil, t, fmt.Errorf("dtype %s is for CUDA devices; the CPU computes in f32", o.DType)
		}
		return nil, dtype.F32, nil
	}
	rest, ok := strings.CutPrefix(o.Name, "cuda:")
	ordinal, err := strconv.Atoi(rest)
	if !ok || err != nil || ordinal < 0 {
		return nil, t, fmt.Errorf("device %q is not cpu or cuda:N", o.Name)
	}
	dev, err := cuda.Open(ordinal)
	if err != nil {
		return nil, t, &DeviceError{o.Name, err}
	}
	return dev, t, nil
}

// DeviceError reports that a device cannot be had.
type DeviceError struct {
	Name string
	Err  error
}

func (e *DeviceError) Error() string { return e.Err.Error() }
func (e *DeviceError) Unwrap() error { return e.Err }

// ErrDeviceLost is the error of every call after one that ruined the device's state, as an illegal access does; the
// process must be started anew to use the device again. errors.Is finds it.
var ErrDeviceLost = device.ErrLost

// DeviceMemoryError reports that a device has no room for what a plan or a graph takes.
type DeviceMemoryError = device.MemoryError
