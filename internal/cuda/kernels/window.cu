// Convolutions and pools over any window of images, for every device, in float. Their definitions are
// ops.ConvWindow, ops.Pool and ops.AdaptiveAverage. Convolutions that gemm.cu and the tensor cores' kernels
// take do not come here.
//
//   x [B H W C]   w [N KH KW C/GROUPS]   out [B OH OW N]
//
// v1: nothing is read ahead. Filters with a dilation, and groups of many channels, could run on tensor cores.
#include "machine.h"

struct WindowParams {
  const void *x, *w;
  const float *bias; // [N] or null
  void *out;
  int64_t results; // numbers of out
  int32_t height, width, channels, out_height, out_width, out_channels;
  int32_t kh, kw, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, groups;
};

// The place of a window's pixel (ky, kx) in x, counted in pixels, -1 outside the image. m is an output pixel.
DEVICE int64_t pixel(const WindowParams &p, int m, int ky, int kx) {
  const int b = m / (p.out_height * p.out_width), o = m % (p.out_height * p.out_width);
  const int y = o / p.out_width * p.stride_h + ky * p.dilation_h - p.pad_top;
  const int x = o % p.out_width * p.stride_w + kx * p.dilation_w - p.pad_left;
  return y < 0 || x < 0 || y >= p.height || x >= p.width ? -1 : ((int64_t)b * p.height + y) * p.width + x;
}

enum { TILE = 64, DEPTH = 16 };

// A product per group, as gemm.cu has it: grid (M/64 * (N/GROUPS)/64, GROUPS), 256 threads, each sums 4 x 4.
template <class T> DEVICE void convolve(const WindowParams &p) {
  float(*a)[TILE + 4] = (float(*)[TILE + 4])shared_memory(), (*b)[TILE + 4] = a + DEPTH; // [DEPTH], of x and of w
  const int thread = threadIdx.x, tx = thread % 16 * 4, ty = thread / 16 * 4;
  const int rows = (int)(p.results / p.out_channels), columns = p.out_channels / p.groups, deep = p.channels / p.groups;
  const int tiles_n = (columns + TILE - 1) / TILE, m0 = blockIdx.x / tiles_n * TILE, n0 = blockIdx.x % tiles_n * TILE;
  const int depth = p.kh * p.kw * deep;
  const T *x = (const T *)p.x + blockIdx.y * deep, *w = (const T *)p.w + (int64_t)blockIdx.y * columns * depth;
  float sum[4][4] = {};
  for (int k0 = 0; k0 < depth; k0 += DEPTH) {
    for (int e = thread; e < TILE * DEPTH; e += 256) {
      const int row = e / DEPTH, k = k0 + e % DEPTH, tap = k / deep;
      const int64_t at = m0 + row < rows && k < depth ? pixel(p, m0 + row, tap / p.kw, tap % p.kw) : -1;
      a[e % DEPTH][row] = at >= 0 ? to_float(x[at * p.channels + k % deep]) : 0.f;
      b[e % DEPTH][row] = n0 + row < columns && k < depth ? to_float(w[(int64_t)(n0 + row) * depth + k]) : 0.f;
    }
    block_sync();
#pragma unroll
    for (int k = 0; k < DEPTH; k++)
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] += a[k][ty + i] * b[k][tx + j];
    block_sync();
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int row = m0 + ty + i, column = n0 + tx + j, n = blockIdx.y * columns + column;
      if (row < rows && column < columns)
        from_float(sum[i][j] + (p.bias ? p.bias[n] : 0.f), ((T *)p.out)[(int64_t)row * p.out_channels + n]);
    }
}

// The others compute one result per thread at a time: out[at] is channel n of output pixel m.
#define EACH_RESULT(at, m, n)                                                                                          \
  for (int64_t at = (int64_t)blockIdx.x * 256 + threadIdx.x; at < p.results; at += (int64_t)gridDim.x * 256)           \
    if (const int m = (int)(at / p.out_channels), n = (int)(at % p.out_channels); true)

// A filter per channel: C = N = GROUPS.
template <class T> DEVICE void depthwise(const WindowParams &p) {
  const int taps = p.kh * p.kw;
  EACH_RESULT(at, m, n) {
    float sum = p.bias ? p.bias[n] : 0.f;
    for (int tap = 0; tap < taps; tap++) {
      const int64_t from = pixel(p, m, tap / p.kw, tap % p.kw);
      if (from < 0) continue;
      sum += to_float(((const T *)p.x)[from * p.channels + n]) * to_float(((const T *)p.w)[(int64_t)n * taps + tap]);
    }
    from_float(sum, ((T *)p.out)[at]);
  }
}

template <class T> DEVICE void average(const WindowParams &p) {
  EACH_RESULT(at, m, n) {
    float sum = 0;
    for (int tap = 0; tap < p.kh * p.kw; tap++) {
      const int64_t from = pixel(p, m, tap / p.kw, tap % p.kw);
      if (from >= 0) sum += to_float(((const T *)p.x)[from * p.channels + n]);
    }
    from_float(sum / (float)(p.kh * p.kw), ((T *)p.out)[at]);
  }
}

template <class T> DEVICE void most(const WindowParams &p) {
  EACH_RESULT(at, m, n) {
    float best = minus_infinity();
    for (int tap = 0; tap < p.kh * p.kw; tap++) {
      const int64_t from = pixel(p, m, tap / p.kw, tap % p.kw);
      if (from < 0) continue;
      const float v = to_float(((const T *)p.x)[from * p.channels + n]);
      if (v > best || v != v) best = v; // NaN stays
    }
    from_float(best, ((T *)p.out)[at]);
  }
}

// The mean of part (y, x) of OH times OW parts of an image.
template <class T> DEVICE void adaptive(const WindowParams &p) {
  EACH_RESULT(at, m, n) {
    const int b = m / (p.out_height * p.out_width), i = m / p.out_width % p.out_height, j = m % p.out_width;
    const int top = (int)((int64_t)i * p.height / p.out_height), left = (int)((int64_t)j * p.width / p.out_width);
    const int bottom = (int)(((int64_t)(i + 1) * p.height + p.out_height - 1) / p.out_height);
    const int right = (int)(((int64_t)(j + 1) * p.width + p.out_width - 1) / p.out_width);
    float sum = 0;
    for (int y = top; y < bottom; y++) {
      float row = 0; // sums of rows, and then of them, keep more digits than one long sum
      const T *pixels = (const T *)p.x + ((int64_t)b * p.height + y) * p.width * p.channels + n;
      for (int x = left; x < right; x++) row += to_float(pixels[(int64_t)x * p.channels]);
      sum += row;
    }
    from_float(sum / (float)((bottom - top) * (right - left)), ((T *)p.out)[at]);
  }
}

#define WINDOW(T, name)                                                                                                \
  KERNEL(conv_window_##name, WindowParams, 256) { convolve<T>(p); }                                                    \
  KERNEL(conv_depthwise_##name, WindowParams, 256) { depthwise<T>(p); }                                                \
  KERNEL(pool_average_##name, WindowParams, 256) { average<T>(p); }                                                    \
  KERNEL(pool_max_##name, WindowParams, 256) { most<T>(p); }                                                           \
  KERNEL(pool_adaptive_##name, WindowParams, 256) { adaptive<T>(p); }

WINDOW(float, f32)
WINDOW(f16, f16)
WINDOW(bf16, bf16)
