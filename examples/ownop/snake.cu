// Kernels of the op Snake: x + sin(alpha x)^2 / alpha. A kernel has one parameter, a struct, and one form per type that a
// device may be opened for. `make kernels` compiles it; machine.h has from_float and to_float for the three types.
#include "machine.h"

struct SnakeParams {
  const void *x, *alpha;  // [... C], [C]
  void *out;
  int64_t n;  // elements
  int32_t channels, unused;
};

template <class T> DEVICE void snake(const SnakeParams &p) {
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < p.n; i += (int64_t)gridDim.x * 256) {
    float x = to_float(((const T *)p.x)[i]), a = to_float(((const T *)p.alpha)[i % p.channels]), s = sinf(a * x);
    from_float(x + s * s / a, ((T *)p.out)[i]);
  }
}

KERNEL(snake_f32, SnakeParams, 256) { snake<float>(p); }
KERNEL(snake_f16, SnakeParams, 256) { snake<f16>(p); }
KERNEL(snake_bf16, SnakeParams, 256) { snake<bf16>(p); }
