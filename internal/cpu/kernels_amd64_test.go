package cpu

import "golang.org/x/sys/cpu"

func fasterKernels() (all []kernels) {
	if best := bestKernels().name; best != "portable" {
		all = append(all, avx2Kernels())
	}
	if cpu.X86.HasAVX512F {
		all = append(all, avx512Kernels())
	}
	return all
}
