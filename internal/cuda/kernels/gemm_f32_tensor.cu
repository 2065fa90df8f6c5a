// Products and convolutions of f32 on tensor cores, multiplied as tf32.
#include "gemm_tensor.h"

GEMM_KERNELS(float, f32)
