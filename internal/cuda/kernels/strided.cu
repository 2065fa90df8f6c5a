// elem.Slice, elem.Permute, elem.Reshape: elements of a tensor in another order.
//
//   grid  as many blocks as cover the packs of out, at most 65,535; a thread strides over the rest
//   block 256 threads: N neighbouring numbers each, 16 bytes where they are neighbours in x too
//
// The least is one pass over out and as much of x. v1: where the last dimension changes, the numbers that a warp reads
// together lie apart in x, and only the cache saves reading them again.
#include "machine.h"

template <class T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

enum { MAX_DIMS = 8 }; // as in internal/cpu

// Element (i0, i1, ...) of out is the one of x at OFFSET + i0 STRIDE[0] + i1 STRIDE[1] + ...
struct StridedParams {
  const void *x;
  void *out;
  int64_t n, offset; // n: elements of out
  int64_t size[MAX_DIMS], stride[MAX_DIMS];
  int32_t dims, wide; // wide: packs of 16 bytes are neighbours in both
};

// Index is 32 bits where that is enough: divisions by 64 bits would take longer than the copy.
template <class T, int N, class Index> DEVICE void gather(const StridedParams &p) {
  for (int64_t i = ((int64_t)blockIdx.x * 256 + threadIdx.x) * N; i < p.n; i += (int64_t)gridDim.x * 256 * N) {
    Index rest = (Index)i;
    int64_t from = p.offset;
    for (int d = p.dims - 1; d > 0; d--) {
      const Index size = (Index)p.size[d], row = rest / size;
      from += (int64_t)(rest - row * size) * p.stride[d];
      rest = row;
    }
    from += (int64_t)rest * p.stride[0];
    *(Pack<T, N> *)((T *)p.out + i) = *(const Pack<T, N> *)((const T *)p.x + from);
  }
}

template <class T, int N> DEVICE void gather(const StridedParams &p) {
  if (p.n <= 0xffffffffll)
    gather<T, N, uint32_t>(p);
  else
    gather<T, N, uint64_t>(p);
}

#define STRIDED(T, name)                                                                                               \
  KERNEL(gather_##name, StridedParams, 256) {                                                                          \
    if (p.wide)                                                                                                        \
      gather<T, 16 / (int)sizeof(T)>(p);                                                                               \
    else                                                                                                               \
      gather<T, 1>(p);                                                                                                 \
  }

STRIDED(float, f32)
STRIDED(f16, f16)
STRIDED(bf16, bf16)
