// Package seam is where tests of this module reach into a runtime: see graphs.WithSeam.
package seam

import "github.com/euryale-ml/euryale/internal/device"

// Seam is called by a runtime. Any function may be nil, and may be changed between runs.
type Seam struct {
	Op    func(layer string)                // before each operation of a run
	Alloc func(n int) error                 // before each large buffer of the host; an error fails it
	Copy  func()                            // before each copy of the host device's copy engine
	Wrap  func(device.Device) device.Device // the device, when it is opened
}
