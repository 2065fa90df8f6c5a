// Normalisation. Statistics are float, and from deviations: the mean is known before squares are summed.
#include "epilogue.h"

// N neighbours, which are loaded and stored at once.
template <class T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

// How many numbers are 16 bytes.
template <class T> constexpr int wide_pack() { return 16 / (int)sizeof(T); }

template <int N> DEVICE float sum_of(float v) { // over N neighbouring lanes
  for (int mask = 1; mask < N; mask *= 2) v += shuffle_xor(v, mask);
  return v;
}

// ops.GroupNorm, in two kernels.
//
//   x, out      [B P C]   P pixels, groups of C/G channels
//   gamma, beta [C]
//   partial     [B CHUNKS G 2]   mean and sum of squared deviations of each part of the pixels
//
// Two passes over x, the least without holding an image in shared memory. In both kernels a thread has N channels of some
// pixels: 16 bytes where the channels allow.
struct GroupNormParams {
  const void *x;
  const float *gamma, *beta;
  float *partial;
  void *out;
  int32_t pixels, channels, groups, chunks, silu;
  float eps;
};

// The pixels of part i begin there. The last parts may have fewer, or none.
DEVICE int chunk_begin(const GroupNormParams &p, int i) {
  const int at = i * ((p.pixels + p.chunks - 1) / p.chunks);
  return at < p.pixels ? at : p.pixels;
}

// Mean and squared deviations of count sets of numbers, of which set i has number(i), mean(i) and square(i). Eight
// neighbouring lanes share the work. The numbers of a set may be 0.
template <class Number, class Mean, class Square>
DEVICE void combine(int count, Number number, Mean mean, Square square, float &m, float &s, float &n) {
  const int lane = threadIdx.x % 8;
  n = m = s = 0;
  for (int i = lane; i < count; i += 8) n += number(i), m += number(i) * mean(i);
  n = sum_of<8>(n);
  m = sum_of<8>(m);
  m = n > 0.f ? m / n : 0.f;
  for (int i = lane; i < count; i += 8) {
    const float d = mean(i) - m;
    s += square(i) + number(i) * d * d;
  }
  s = sum_of<8>(s);
}

//   grid  (CHUNKS, B)
//   block 256 threads: N channels each, several pixels apart where there are fewer channels
template <class T, int N> DEVICE void group_norm_sums(const GroupNormParams &p) {
  const int packs = p.channels / N, wide = packs < 256 ? packs : 256, high = 256 / wide; // threads over channels and pixels
  float *mean = (float *)shared_memory(), *square = mean + high * p.channels;
  const int begin = chunk_begin(p, blockIdx.x), end = chunk_begin(p, blockIdx.x + 1);
  const int tx = threadIdx.x % wide, ty = threadIdx.x / wide;
  const Pack<T, N> *x = (const Pack<T, N> *)p.x + (int64_t)blockIdx.y * p.pixels * packs;
  auto number = [&](int row) { return (end - begin - row + high - 1) / high; }; // pixels of threads of that ty
  for (int c = tx; c < packs && ty < high; c += wide) {
    float m[N] = {}, s[N] = {};
#pragma unroll 4
    for (int i = begin + ty; i < end; i += high) {
      const Pack<T, N> v = x[(int64_t)i * packs + c];
#pragma unroll
      for (int e = 0; e < N; e++) m[e] += to_float(v.at[e]);
    }
    const float share = number(ty) > 0 ? 1.f / (float)number(ty) : 0.f;
#pragma unroll
    for (int e = 0; e < N; e++) m[e] *= share;
#pragma unroll 4
    for (int i = begin + ty; i < end; i += high) {
      const Pack<T, N> v = x[(int64_t)i * packs + c];
#pragma unroll
      for (int e = 0; e < N; e++) {
        const float d = to_float(v.at[e]) - m[e];
        s[e] += d * d;
      }
    }
#pragma unroll
    for (int e = 0; e < N; e++) mean[ty * p.channels + c * N + e] = m[e], square[ty * p.channels + c * N + e] = s[e];
  }
  block_sync();
  const int width = p.channels / p.groups;
  for (int first = 0; first < p.groups; first += 32) { // all lanes take part
    const int g = first + threadIdx.x / 8, at = g < p.groups ? g * width : 0;
    auto place = [&](int i) { return i / width * p.channels + at + i % width; };
    float m, s, n;
    combine(high * width, [&](int i) { return (float)number(i / width); }, [&](int i) { return mean[place(i)]; },
            [&](int i) { return square[place(i)]; }, m, s, n);
    float *to = p.partial + (((int64_t)blockIdx.y * p.chunks + blockIdx.x) * p.groups + g) * 2;
    if (g < p.groups && threadIdx.x % 8 == 0) to[0] = m, to[1] = s;
  }
}

enum { AHEAD = 4 };

//   grid  (CHUNKS, B)
//   block 256 threads
template <class T, int N> DEVICE void group_norm(const GroupNormParams &p) {
  float *mean = (float *)shared_memory(), *inverse = mean + p.groups;
  const int width = p.channels / p.groups;
  for (int first = 0; first < p.groups; first += 32) {
    const int g = first + threadIdx.x / 8;
    const float *from = p.partial + ((int64_t)blockIdx.y * p.chunks * p.groups + (g < p.groups ? g : 0)) * 2;
    float m, s, n;
    combine(p.chunks, [&](int i) { return (float)(chunk_begin(p, i + 1) - chunk_begin(p, i)) * (float)width; },
            [&](int i) { return from[(int64_t)i * p.groups * 2]; }, [&](int i) { return from[(int64_t)i * p.groups * 2 + 1]; }, m, s, n);
    if (g < p.groups && threadIdx.x % 8 == 0) mean[g] = m, inverse[g] = 1.f / sqrtf(s / n + p.eps);
  }
  block_sync();
  const int packs = p.channels / N, wide = packs < 256 ? packs : 256, high = 256 / wide;
  const int begin = chunk_begin(p, blockIdx.x), end = chunk_begin(p, blockIdx.x + 1);
  const int tx = threadIdx.x % wide, ty = threadIdx.x / wide;
  const int64_t image = (int64_t)blockIdx.y * p.pixels * packs;
  const Pack<T, N> *x = (const Pack<T, N> *)p.x + image;
  Pack<T, N> *out = (Pack<T, N> *)p.out + image;
  for (int c = tx; c < packs && ty < high; c += wide) {
    float origin[N], scale[N], shift[N];
#pragma unroll
    for (int e = 0; e < N; e++) {
      const int g = (c * N + e) / width;
      origin[e] = mean[g], scale[e] = inverse[g] * p.gamma[c * N + e], shift[e] = p.beta[c * N + e];
    }
    // Loads go ahead of stores, which may be to the same place.
    for (int i = begin + ty; i < end; i += AHEAD * high) {
      Pack<T, N> v[AHEAD];
#pragma unroll
      for (int u = 0; u < AHEAD; u++)
        if (i + u * high < end) v[u] = x[(int64_t)(i + u * high) * packs + c];
#pragma unroll
      for (int u = 0; u < AHEAD; u++) {
        if (i + u * high >= end) break;
#pragma unroll
        for (int e = 0; e < N; e++) {
          const float y = (to_float(v[u].at[e]) - origin[e]) * scale[e] + shift[e];
          from_float(p.silu ? activate(SILU, y) : y, v[u].at[e]);
        }
        out[(int64_t)(i + u * high) * packs + c] = v[u];
      }
    }
  }
}

// ops.LayerNorm
//
//   x, out      [ROWS C]
//   gamma, beta [C], of layer_norm_bare null
//   grid        ROWS/8, rounded up
//   block       256 threads: a warp per row
struct LayerNormParams {
  const void *x;
  const float *gamma, *beta;
  void *out;
  int32_t rows, channels;
  float eps;
};

template <class T, int N, bool BARE> DEVICE void layer_norm_rows(const LayerNormParams &p) {
  const int lane = threadIdx.x & 31, row = blockIdx.x * 8 + threadIdx.x / 32, packs = p.channels / N;
  if (row >= p.rows) return; // the whole warp
  const Pack<T, N> *x = (const Pack<T, N> *)p.x + (int64_t)row * packs;
  Pack<T, N> *out = (Pack<T, N> *)p.out + (int64_t)row * packs;
  float mean = 0, square = 0;
  for (int c = lane; c < packs; c += 32) {
    const Pack<T, N> v = x[c];
#pragma unroll
    for (int e = 0; e < N; e++) mean += to_float(v.at[e]);
  }
  mean = sum_of<32>(mean) / p.channels;
  for (int c = lane; c < packs; c += 32) {
    const Pack<T, N> v = x[c];
#pragma unroll
    for (int e = 0; e < N; e++) {
      const float d = to_float(v.at[e]) - mean;
      square += d * d;
    }
  }
  const float inverse = 1.f / sqrtf(sum_of<32>(square) / p.channels + p.eps);
  for (int c = lane; c < packs; c += 32) {
    Pack<T, N> v = x[c];
    if constexpr (BARE) {
#pragma unroll
      for (int e = 0; e < N; e++) from_float((to_float(v.at[e]) - mean) * inverse, v.at[e]);
    } else {
      const Pack<float, N> gamma = *(const Pack<float, N> *)(p.gamma + c * N), beta = *(const Pack<float, N> *)(p.beta + c * N);
#pragma unroll
      for (int e = 0; e < N; e++) from_float((to_float(v.at[e]) - mean) * inverse * gamma.at[e] + beta.at[e], v.at[e]);
    }
    out[c] = v;
  }
}

template <class T, int N> DEVICE void layer_norm(const LayerNormParams &p) { layer_norm_rows<T, N, false>(p); }
template <class T, int N> DEVICE void layer_norm_bare(const LayerNormParams &p) { layer_norm_rows<T, N, true>(p); }

// ops.RMSNorm
//
//   x, out [ROWS C]
//   gamma  [C] or null
//   grid   ROWS*LANES/256, rounded up
//   block  256 threads: LANES of a warp per row, a power of two; heads are rows that need few
struct RMSNormParams {
  const void *x;
  const float *gamma;
  void *out;
  int32_t rows, channels, lanes;
  float eps;
};

template <class T, int N> DEVICE void rms_norm(const RMSNormParams &p) {
  const int lane = threadIdx.x % p.lanes, row = blockIdx.x * (256 / p.lanes) + threadIdx.x / p.lanes;
  const int packs = row < p.rows ? p.channels / N : 0; // all lanes take part in sums
  const Pack<T, N> *x = (const Pack<T, N> *)p.x + (int64_t)row * (p.channels / N);
  Pack<T, N> *out = (Pack<T, N> *)p.out + (int64_t)row * (p.channels / N);
  float square = 0;
  for (int c = lane; c < packs; c += p.lanes) {
    const Pack<T, N> v = x[c];
#pragma unroll
    for (int e = 0; e < N; e++) square += to_float(v.at[e]) * to_float(v.at[e]);
  }
  for (int mask = 1; mask < p.lanes; mask *= 2) square += shuffle_xor(square, mask);
  const float inverse = 1.f / sqrtf(square / p.channels + p.eps);
  for (int c = lane; c < packs; c += p.lanes) {
    Pack<T, N> v = x[c];
#pragma unroll
    for (int e = 0; e < N; e++) {
      const float y = to_float(v.at[e]) * inverse;
      from_float(p.gamma ? y * p.gamma[c * N + e] : y, v.at[e]);
    }
    out[c] = v;
  }
}

// Channels of any number, and those that are packs of 16 bytes.
#define NORM(op, Params, T, name)                                                                                      \
  KERNEL(op##_##name, Params, 256) {                                                                                   \
    if (p.channels % wide_pack<T>() == 0)                                                                              \
      op<T, wide_pack<T>()>(p);                                                                                        \
    else                                                                                                               \
      op<T, 1>(p);                                                                                                     \
  }
#define NORMS(T, name)                                                                                                 \
  NORM(group_norm_sums, GroupNormParams, T, name)                                                                      \
  NORM(group_norm, GroupNormParams, T, name)                                                                           \
  NORM(layer_norm, LayerNormParams, T, name)                                                                           \
  NORM(layer_norm_bare, LayerNormParams, T, name)                                                                      \
  NORM(rms_norm, RMSNormParams, T, name)

NORMS(float, f32)
NORMS(f16, f16)
NORMS(bf16, bf16)
