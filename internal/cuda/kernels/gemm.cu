// Matrix products and convolutions for every device, in float. Their definitions are ops.Linear and ops.Conv.
//
//   x      [M K] or [B H W C]     w [N K]     out [M N]
//   grid   M/64 * N/64, each rounded up
//   block  256 threads; each sums 4 x 4 of the tile
//
// Float pipelines run on it, and what the tensor cores' kernel does not take: other channel counts, older devices.
#include "epilogue.h"

enum { TILE = 64, DEPTH = 16 };

// Element k of row r of x, as a convolution sees it.
template <class T> DEVICE float gathered(const GemmParams &p, int r, int k) {
  if (r >= p.m || k >= p.k) return 0;
  const T *x = (const T *)p.x;
  if (p.kh == 0) return to_float(x[(int64_t)r * p.k + k]);
  int tap = k / p.channels, c = k % p.channels, b = r / p.out_pixels, o = r % p.out_pixels;
  int iy = o / p.out_width * p.stride - p.pad_top + tap / p.kw, ix = o % p.out_width * p.stride - p.pad_left + tap % p.kw;
  if (iy < 0 || ix < 0 || iy >= p.height * p.up || ix >= p.width * p.up) return 0;
  return to_float(x[(((int64_t)b * p.height + (iy >> (p.up - 1))) * p.width + (ix >> (p.up - 1))) * p.channels + c]);
}

template <class T> DEVICE void gemm(const GemmParams &p) {
  float(*a)[TILE + 4] = (float(*)[TILE + 4])shared_memory(), (*b)[TILE + 4] = a + DEPTH;
  const int thread = threadIdx.x, tx = thread % 16 * 4, ty = thread / 16 * 4;
  const int tiles_n = (p.n + TILE - 1) / TILE, m0 = blockIdx.x / tiles_n * TILE, n0 = blockIdx.x % tiles_n * TILE;
  float sum[4][4] = {};
  for (int k0 = 0; k0 < p.k; k0 += DEPTH) {
    for (int e = thread; e < TILE * DEPTH; e += 256) {
      int row = e / DEPTH, k = e % DEPTH, n = n0 + row;
      a[k][row] = gathered<T>(p, m0 + row, k0 + k);
      b[k][row] = n < p.n && k0 + k < p.k ? to_float(((const T *)p.w)[(int64_t)weight_row(p, n) * p.k + k0 + k]) : 0.f;
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
    for (int j = 0; j < 4; j += 2) store_pair<T>(p, m0 + ty + i, n0 + tx + j, sum[i][j], sum[i][j + 1]);
}

KERNEL(gemm_f32, GemmParams, 256) { gemm<float>(p); }
KERNEL(gemm_f16, GemmParams, 256) { gemm<f16>(p); }
KERNEL(gemm_bf16, GemmParams, 256) { gemm<bf16>(p); }
