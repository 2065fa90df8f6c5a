package cpu

func bestKernels() kernels { return portableKernels() }
