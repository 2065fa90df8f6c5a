// Attention for every device and head size up to 512, in float, without the SQ x SKV matrix. Its definition is
// ops.Attention.
//
//   q, out [B SQ HEADS*D]   k, v [B SKV KV_HEADS*D]
//   grid   (SQ/32, B*HEADS), rounded up
//   block  256 threads: eight per query, over 32 keys at a time
#pragma once
#include "attention.h"

enum { N = 32 };

template <class T, int DMAX, class P> DEVICE void attention(const P &p) {
  constexpr bool general = General<P>::value;
  float(*sq)[N + 1] = (float(*)[N + 1])shared_memory(), (*sk)[N + 1] = sq + N, (*s)[N + 1] = sk + N;
  const int thread = threadIdx.x, row = thread / 8, part = thread % 8;
  const int q0 = blockIdx.x * N, b = blockIdx.y / p.heads, head = blockIdx.y % p.heads;
  const int64_t width = (int64_t)p.heads * p.d;
  const T *q = (const T *)p.q + (int64_t)b * p.sq * width + head * p.d;
  int64_t width_k = width; // of rows of k and v
  const T *k, *v, *bias = nullptr;
  if constexpr (general) {
    width_k = (int64_t)p.kv_heads * p.d;
    k = (const T *)p.k, v = (const T *)p.v, bias = (const T *)p.bias;
    if (bias) bias += (q0 + row < p.sq ? q0 + row : 0) * p.bias_row;
  } else {
    k = (const T *)p.k + (int64_t)b * p.skv * width + head * p.d;
    v = (const T *)p.v + (int64_t)b * p.skv * width + head * p.d;
  }

  float sum[DMAX / 8] = {}, top = general ? minus_infinity() : -1e30f, total = 0;
  const int seen = p.causal && q0 + N < p.skv ? q0 + N : p.skv;
  for (int k0 = 0; k0 < seen; k0 += N) {
    float dot[4] = {};
    for (int d0 = 0; d0 < p.d; d0 += N) {
      for (int e = thread; e < N * N; e += 256) {
        int r = e / N, c = e % N;
        sq[r][c] = q0 + r < p.sq && d0 + c < p.d ? to_float(q[(q0 + r) * width + d0 + c]) : 0.f;
        sk[r][c] = k0 + r < p.skv && d0 + c < p.d ? to_float(k[(k0 + r) * width_k + d0 + c]) : 0.f;
      }
      block_sync();
      for (int c = 0; c < N; c++)
#pragma unroll
        for (int j = 0; j < 4; j++) dot[j] += sq[row][c] * sk[part + 8 * j][c];
      block_sync();
    }
    float high = top;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int key = k0 + part + 8 * j;
      dot[j] = key < p.skv && (!p.causal || key <= q0 + row) ? dot[j] * p.scale : minus_infinity();
      if (general && bias && key < p.skv) dot[j] += to_float(bias[key]);
      high = fmaxf(high, dot[j]);
    }
    for (int mask = 1; mask < 8; mask *= 2) high = fmaxf(high, shuffle_xor(high, mask));
    const float origin = general ? origin_of(high) : high;
    float shrink = expf(top - origin);
    top = high, total *= shrink;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      dot[j] = expf(dot[j] - origin);
      total += dot[j];
      s[row][part + 8 * j] = dot[j];
    }
    block_sync();
#pragma unroll
    for (int i = 0; i < DMAX / 8; i++) {
      int d = part + 8 * i;
      if (d >= p.d) continue;
      sum[i] *= shrink;
#pragma unroll 1
      for (int j = 0; j < N && k0 + j < p.skv; j++) sum[i] += s[row][j] * to_float(v[(k0 + j) * width_k + d]);
    }
    block_sync();
  }
  for (int mask = 1; mask < 8; mask *= 2) total += shuffle_xor(total, mask);
  if (q0 + row >= p.sq) return;
  T *out = (T *)p.out + ((int64_t)b * p.sq + q0 + row) * width + head * p.d;
#pragma unroll
  for (int i = 0; i < DMAX / 8; i++)
    if (part + 8 * i < p.d) from_float(general && total == 0 ? 0.f : sum[i] / total, out[part + 8 * i]);
}
