//go:build !amd64

package cpu

func fasterKernels() []kernels { return nil }
