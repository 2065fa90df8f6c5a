// Pointwise work and data movement. Each kernel's definition is the op of package layers that is named beside it.
//
//   grid  as many blocks as cover the elements, at most 65,535 x 16; a thread strides over the rest
//   block 256 threads
//
// All of them are bound by memory: the least is one pass over what they read and write.
#include "machine.h"

struct AddParams {
  const void *a, *b;
  void *out;
  int64_t n;
};

template <class T> DEVICE void add(const AddParams &p) {
  int64_t stride = (int64_t)gridDim.x * 256;
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < p.n; i += stride)
    from_float(to_float(((const T *)p.a)[i]) + to_float(((const T *)p.b)[i]), ((T *)p.out)[i]);
}

// layers.add
KERNEL(add_f32, AddParams, 256) { add<float>(p); }
KERNEL(add_f16, AddParams, 256) { add<f16>(p); }
KERNEL(add_bf16, AddParams, 256) { add<bf16>(p); }
