// Pointwise work of the blocks of transformers. The op that defines a kernel is named beside it.
//
//   grid  as many blocks as cover the packs of out, at most 65,535; a thread strides over the rest
//   block 256 threads: N neighbouring numbers each, 16 bytes where the channels allow
//
// All of them are bound by memory: the least is one pass over what they read and write. A thread reads all that it
// needs before it writes, so out may be what is read.
#include "epilogue.h"

template <class T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

template <class T> constexpr int wide_pack() { return 16 / (int)sizeof(T); }

// N numbers as float.
template <class T, int N> DEVICE void load(const void *from, int64_t i, float (&v)[N]) {
  const Pack<T, N> pack = *(const Pack<T, N> *)((const T *)from + i);
#pragma unroll
  for (int e = 0; e < N; e++) v[e] = to_float(pack.at[e]);
}

template <class T, int N> DEVICE void store(void *to, int64_t i, const float (&v)[N]) {
  Pack<T, N> pack;
#pragma unroll
  for (int e = 0; e < N; e++) from_float(v[e], pack.at[e]);
  *(Pack<T, N> *)((T *)to + i) = pack;
}

// One struct serves all: a, b and c are what is read, n the elements of out. An operand of vectors has b_stride numbers
// for each image, of which those from b_at on are for the channels; with a stride of 0 all images share them.
struct PointwiseParams {
  const void *a, *b, *c;
  void *out;
  int64_t n, image; // image: elements of an image of out
  int32_t channels, act;
  int32_t b_stride, b_at, c_stride, c_at;
  int32_t vectors; // 0: b is like out
  float factor;
};

// Calls f with the place of each pack.
template <int N, class F> DEVICE void each(const PointwiseParams &p, F f) {
  for (int64_t i = ((int64_t)blockIdx.x * 256 + threadIdx.x) * N; i < p.n; i += (int64_t)gridDim.x * 256 * N) f(i);
}

// Where the vector of element i has its number.
DEVICE int64_t in_vector(const PointwiseParams &p, int64_t i, int32_t stride, int32_t at) {
  return i / p.image * stride + at + i % p.channels;
}

DEVICE int64_t in_b(const PointwiseParams &p, int64_t i) { return p.vectors ? in_vector(p, i, p.b_stride, p.b_at) : i; }

enum { GELU_TANH = GEGLU + 1, RELU, TANH }; // go on as in internal/cpu; products have no epilogue for these

DEVICE float any_activation(int act, float x) {
  switch (act) {
  case GELU_TANH: return x / (1.f + expf(-1.5957691216f * (x + 0.044715f * x * x * x))); // 2 sqrt(2/pi)
  case RELU: return x < 0.f ? 0.f : x;                                                   // NaN stays
  case TANH: return tanhf(x);
  }
  return activate(act, x);
}

// elem.Activate, of functions that products have no epilogue for
template <class T, int N> DEVICE void apply(const PointwiseParams &p) {
  each<N>(p, [&](int64_t i) {
    float v[N];
    load<T>(p.a, i, v);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] = any_activation(p.act, v[e]);
    store<T>(p.out, i, v);
  });
}

// elem.Mul: a * b
template <class T, int N> DEVICE void mul(const PointwiseParams &p) {
  each<N>(p, [&](int64_t i) {
    float v[N], w[N];
    load<T>(p.a, i, v);
    load<T>(p.b, in_b(p, i), w);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] *= w[e];
    store<T>(p.out, i, v);
  });
}

// elem.Sub: a - b
template <class T, int N> DEVICE void sub(const PointwiseParams &p) {
  each<N>(p, [&](int64_t i) {
    float v[N], w[N];
    load<T>(p.a, i, v);
    load<T>(p.b, in_b(p, i), w);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] -= w[e];
    store<T>(p.out, i, v);
  });
}

// elem.Scale: a * FACTOR
template <class T, int N> DEVICE void scale(const PointwiseParams &p) {
  each<N>(p, [&](int64_t i) {
    float v[N];
    load<T>(p.a, i, v);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] *= p.factor;
    store<T>(p.out, i, v);
  });
}

// elem.Modulate: a (1 + b) + c, b and c vectors; c may be null
template <class T, int N> DEVICE void modulate(const PointwiseParams &p) {
  each<N>(p, [&](int64_t i) {
    float v[N], scale[N], shift[N] = {};
    load<T>(p.a, i, v);
    load<T>(p.b, in_vector(p, i, p.b_stride, p.b_at), scale);
    if (p.c) load<T>(p.c, in_vector(p, i, p.c_stride, p.c_at), shift);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] = v[e] * (1.f + scale[e]) + shift[e];
    store<T>(p.out, i, v);
  });
}

// elem.AddGated: a + c * b, c vectors
template <class T, int N> DEVICE void add_gated(const PointwiseParams &p) {
  each<N>(p, [&](int64_t i) {
    float v[N], y[N], gate[N];
    load<T>(p.a, i, v);
    load<T>(p.b, i, y);
    load<T>(p.c, in_vector(p, i, p.c_stride, p.c_at), gate);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] += gate[e] * y[e];
    store<T>(p.out, i, v);
  });
}

// elem.Gated and elem.GatedHalves: act(a) * b. If they are halves of rows, b_stride is the numbers of a row of both
// halves, b_at where in it b begins, c_at where a does.
template <class T, int N> DEVICE void gated(const PointwiseParams &p) {
  each<N>(p, [&](int64_t i) {
    const int64_t row = i / p.channels * p.b_stride + i % p.channels;
    float v[N], w[N];
    load<T>(p.a, p.vectors ? row + p.c_at : i, v);
    load<T>(p.b, p.vectors ? row + p.b_at : i, w);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] = any_activation(p.act, v[e]) * w[e];
    store<T>(p.out, i, v);
  });
}

// elem.Rotary
//
//   x, out   [ROWS HEADS D]   a row is of position ROW % SEQ
//   cos, sin [SEQ WIDTH/2]    float
//
// A thread has N pairs of a head, or N of the numbers that stay.
struct RotaryParams {
  const void *x;
  const float *cos, *sin;
  void *out;
  int64_t rows;
  int32_t seq, heads, d, width, halves, pad;
};

template <class T, int N, bool HALVES> DEVICE void rotary(const RotaryParams &p) {
  const int half = p.width / 2, pairs = half / N, units = pairs + (p.d - p.width) / N;
  const int64_t all = p.rows * p.heads * units;
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < all; i += (int64_t)gridDim.x * 256) {
    const int64_t head = i / units;
    const int unit = (int)(i % units);
    if (unit >= pairs) {
      const int64_t at = head * p.d + p.width + (unit - pairs) * N;
      *(Pack<T, N> *)((T *)p.out + at) = *(const Pack<T, N> *)((const T *)p.x + at);
      continue;
    }
    const int64_t first = head * p.d + (HALVES ? 1 : 2) * unit * N, second = first + (HALVES ? half : N);
    const int64_t angle = head / p.heads % p.seq * half + unit * N;
    float lo[N], hi[N], cosine[N], sine[N], v[2 * N];
    load<T>(p.x, first, lo);
    load<T>(p.x, second, hi);
    load<float>(p.cos, angle, cosine);
    load<float>(p.sin, angle, sine);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] = lo[e], v[N + e] = hi[e];
#pragma unroll
    for (int e = 0; e < N; e++) { // numbers a and b of v are a pair
      const int at = HALVES ? e : 2 * e, other = HALVES ? N + e : 2 * e + 1;
      const float x = v[at], y = v[other];
      v[at] = x * cosine[e] - y * sine[e];
      v[other] = y * cosine[e] + x * sine[e];
    }
#pragma unroll
    for (int e = 0; e < N; e++) lo[e] = v[e], hi[e] = v[N + e];
    store<T>(p.out, first, lo);
    store<T>(p.out, second, hi);
  }
}

template <class T, int N> DEVICE void rotary(const RotaryParams &p) {
  if (p.halves)
    rotary<T, N, true>(p);
  else
    rotary<T, N, false>(p);
}

// Numbers whose count and places are those of packs of 16 bytes, and any.
#define POINTWISE_OP(op, T, name)                                                                                      \
  KERNEL(op##_##name, PointwiseParams, 256) {                                                                          \
    if (p.channels % wide_pack<T>() == 0)                                                                              \
      op<T, wide_pack<T>()>(p);                                                                                        \
    else                                                                                                               \
      op<T, 1>(p);                                                                                                     \
  }
#define POINTWISE(T, name)                                                                                             \
  POINTWISE_OP(apply, T, name)                                                                                         \
  POINTWISE_OP(mul, T, name)                                                                                           \
  POINTWISE_OP(sub, T, name)                                                                                           \
  POINTWISE_OP(scale, T, name)                                                                                         \
  POINTWISE_OP(modulate, T, name)                                                                                      \
  POINTWISE_OP(add_gated, T, name)                                                                                     \
  POINTWISE_OP(gated, T, name)                                                                                         \
  KERNEL(rotary_##name, RotaryParams, 256) {                                                                           \
    if (p.width % (2 * wide_pack<T>()) == 0 && p.d % wide_pack<T>() == 0)                                              \
      rotary<T, wide_pack<T>()>(p);                                                                                    \
    else                                                                                                               \
      rotary<T, 1>(p);                                                                                                 \
  }

POINTWISE(float, f32)
POINTWISE(f16, f16)
POINTWISE(bf16, bf16)
