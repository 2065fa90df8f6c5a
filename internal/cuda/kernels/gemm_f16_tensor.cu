// Products and convolutions of f16 on tensor cores.
#include "gemm_tensor.h"

GEMM_KERNELS(f16, f16)
