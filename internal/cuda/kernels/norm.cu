// Normalisation. Statistics are float, and from deviations: the mean is known before squares are summed.
#include "epilogue.h"

// layers.groupNorm, in two kernels.
//
//   x, out      [B P C]   P pixels, groups of C/G channels
//   gamma, beta [C]
//   partial     [B CHUNKS G 2]   mean and sum of squared deviations of each part of the pixels
//
// Two passes over x, the least without holding an image in shared memory. Both kernels read pixels in order, so that
// neighbouring threads read neighbouring channels.
struct GroupNormParams {
  const void *x;
  const float *gamma, *beta;
  float *partial;
  void *out;
  int32_t pixels, channels, groups, chunks, silu;
  float eps;
};

// Adds n values of mean m and squared deviations s to count, mean, square (Chan et al. 1979).
DEVICE void combine(float &count, float &mean, float &square, float n, float m, float s) {
  if (n == 0.f) return;
  float all = count + n, d = m - mean;
  mean += d * (n / all);
  square += s + d * d * (count * n / all);
  count = all;
}

// The pixels of part i.
DEVICE int chunk_begin(const GroupNormParams &p, int i) { return (int)((int64_t)p.pixels * i / p.chunks); }

//   grid  (CHUNKS, B)
//   block 256 threads: a channel each, several pixels apart where there are fewer channels
template <class T> DEVICE void group_norm_sums(const GroupNormParams &p) {
  const int wide = p.channels < 256 ? p.channels : 256, high = 256 / wide; // threads over channels and pixels
  float *mean = (float *)shared_memory(), *square = mean + high * p.channels, *number = square + high * p.channels;
  const int begin = chunk_begin(p, blockIdx.x), end = chunk_begin(p, blockIdx.x + 1);
  const int tx = threadIdx.x % wide, ty = threadIdx.x / wide;
  const T *x = (const T *)p.x + (int64_t)blockIdx.y * p.pixels * p.channels;
  for (int c = tx; c < p.channels && ty < high; c += wide) {
    float n = 0, m = 0, s = 0;
    for (int i = begin + ty; i < end; i += high) m += to_float(x[(int64_t)i * p.channels + c]), n += 1;
    if (n > 0.f) m /= n;
    for (int i = begin + ty; i < end; i += high) {
      float d = to_float(x[(int64_t)i * p.channels + c]) - m;
      s += d * d;
    }
    mean[ty * p.channels + c] = m, square[ty * p.channels + c] = s;
    if (c == 0) number[ty] = n;
  }
  block_sync();
  const int width = p.channels / p.groups;
  for (int g = threadIdx.x; g < p.groups; g += 256) {
    float n = 0, m = 0, s = 0;
    for (int r = 0; r < high; r++)
      for (int c = g * width; c < (g + 1) * width; c++) combine(n, m, s, number[r], mean[r * p.channels + c], square[r * p.channels + c]);
    float *to = p.partial + (((int64_t)blockIdx.y * p.chunks + blockIdx.x) * p.groups + g) * 2;
    to[0] = m, to[1] = s;
  }
}

//   grid  (CHUNKS, B)
//   block 256 threads
template <class T> DEVICE void group_norm(const GroupNormParams &p) {
  float *mean = (float *)shared_memory(), *inverse = mean + p.groups;
  const int width = p.channels / p.groups;
  for (int g = threadIdx.x; g < p.groups; g += 256) {
    float n = 0, m = 0, s = 0;
    for (int i = 0; i < p.chunks; i++) {
      const float *from = p.partial + (((int64_t)blockIdx.y * p.chunks + i) * p.groups + g) * 2;
      combine(n, m, s, (float)(chunk_begin(p, i + 1) - chunk_begin(p, i)) * width, from[0], from[1]);
    }
    mean[g] = m, inverse[g] = 1.f / sqrtf(s / n + p.eps);
  }
  block_sync();
  const int64_t image = (int64_t)blockIdx.y * p.pixels * p.channels;
  const int64_t begin = (int64_t)chunk_begin(p, blockIdx.x) * p.channels, end = (int64_t)chunk_begin(p, blockIdx.x + 1) * p.channels;
  const T *x = (const T *)p.x + image;
  T *out = (T *)p.out + image;
  for (int64_t i = begin + threadIdx.x; i < end; i += 256) {
    int c = (int)(i % p.channels), g = c / width;
    float y = (to_float(x[i]) - mean[g]) * inverse[g] * p.gamma[c] + p.beta[c];
    from_float(p.silu ? activate(SILU, y) : y, out[i]);
  }
}

// layers.layerNorm
//
//   x, out      [ROWS C]
//   gamma, beta [C]
//   grid        ROWS/8, rounded up
//   block       256 threads: a warp per row
struct LayerNormParams {
  const void *x;
  const float *gamma, *beta;
  void *out;
  int32_t rows, channels;
  float eps;
};

DEVICE float warp_sum(float v) {
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

template <class T> DEVICE void layer_norm(const LayerNormParams &p) {
  const int lane = threadIdx.x & 31, row = blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= p.rows) return; // the whole warp
  const T *x = (const T *)p.x + (int64_t)row * p.channels;
  T *out = (T *)p.out + (int64_t)row * p.channels;
  float mean = 0, square = 0;
  for (int c = lane; c < p.channels; c += 32) mean += to_float(x[c]);
  mean = warp_sum(mean) / p.channels;
  for (int c = lane; c < p.channels; c += 32) {
    float d = to_float(x[c]) - mean;
    square += d * d;
  }
  const float inverse = 1.f / sqrtf(warp_sum(square) / p.channels + p.eps);
  for (int c = lane; c < p.channels; c += 32) from_float((to_float(x[c]) - mean) * inverse * p.gamma[c] + p.beta[c], out[c]);
}

#define NORMS(T, name)                                                                                                 \
  KERNEL(group_norm_sums_##name, GroupNormParams, 256) { group_norm_sums<T>(p); }                                      \
  KERNEL(group_norm_##name, GroupNormParams, 256) { group_norm<T>(p); }                                                \
  KERNEL(layer_norm_##name, LayerNormParams, 256) { layer_norm<T>(p); }

NORMS(float, f32)
NORMS(f16, f16)
NORMS(bf16, bf16)
