// Products and convolutions of bf16 on tensor cores.
#include "gemm_tensor.h"

GEMM_KERNELS(bf16, bf16)
