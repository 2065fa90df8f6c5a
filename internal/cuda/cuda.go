// Package cuda has the device that runs on NVIDIA GPUs, through package cu and the driver's interface, and the kernels
// it runs. It is built with the tag gpu; without it, Open says so.
//
// On compute capability 9.0, with EURYALE_HOPPER=1 in the environment, products and convolutions run on the kernels of
// gemm_hopper.cu where they take the shape. These have run on the tests' stand-in driver alone, not on a GPU yet, and are
// not the default for that reason. Asked for where they cannot run, they make Open fail.
package cuda
