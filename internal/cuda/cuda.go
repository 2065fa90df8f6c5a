// Package cuda has the device that runs on NVIDIA GPUs, through package cu and the driver's interface, and the kernels
// it runs. It is built with the tag gpu; without it, Open says so.
package cuda
