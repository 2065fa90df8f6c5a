// Attention for every device and head size up to 512, in float, without the SQ x SKV matrix. Its definition is
// layers.attention.
//
//   q, out [B SQ HEADS*D]   k, v [B SKV HEADS*D]
//   grid   (SQ/32, B*HEADS), rounded up
//   block  256 threads: eight per query, over 32 keys at a time
#include "attention.h"

enum { N = 32 };

template <class T, int DMAX> DEVICE void attention(const AttentionParams &p) {
  float(*sq)[N + 1] = (float(*)[N + 1])shared_memory(), (*sk)[N + 1] = sq + N, (*s)[N + 1] = sk + N;
  const int thread = threadIdx.x, row = thread / 8, part = thread % 8;
  const int q0 = blockIdx.x * N, b = blockIdx.y / p.heads, head = blockIdx.y % p.heads;
  const int64_t width = (int64_t)p.heads * p.d;
  const T *q = (const T *)p.q + (int64_t)b * p.sq * width + head * p.d;
  const T *k = (const T *)p.k + (int64_t)b * p.skv * width + head * p.d;
  const T *v = (const T *)p.v + (int64_t)b * p.skv * width + head * p.d;

  float sum[DMAX / 8] = {}, top = -1e30f, total = 0;
  const int seen = p.causal && q0 + N < p.skv ? q0 + N : p.skv;
  for (int k0 = 0; k0 < seen; k0 += N) {
    float dot[4] = {};
    for (int d0 = 0; d0 < p.d; d0 += N) {
      for (int e = thread; e < N * N; e += 256) {
        int r = e / N, c = e % N;
        sq[r][c] = q0 + r < p.sq && d0 + c < p.d ? to_float(q[(q0 + r) * width + d0 + c]) : 0.f;
        sk[r][c] = k0 + r < p.skv && d0 + c < p.d ? to_float(k[(k0 + r) * width + d0 + c]) : 0.f;
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
      high = fmaxf(high, dot[j]);
    }
    for (int mask = 1; mask < 8; mask *= 2) high = fmaxf(high, shuffle_xor(high, mask));
    float shrink = expf(top - high);
    top = high, total *= shrink;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      dot[j] = expf(dot[j] - top);
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
      for (int j = 0; j < N && k0 + j < p.skv; j++) sum[i] += s[row][j] * to_float(v[(k0 + j) * width + d]);
    }
    block_sync();
  }
  for (int mask = 1; mask < 8; mask *= 2) total += shuffle_xor(total, mask);
  if (q0 + row >= p.sq) return;
  T *out = (T *)p.out + ((int64_t)b * p.sq + q0 + row) * width + head * p.d;
#pragma unroll
  for (int i = 0; i < DMAX / 8; i++)
    if (part + 8 * i < p.d) from_float(sum[i] / total, out[part + 8 * i]);
}

#define ATTENTION(T, name)                                                                                             \
  KERNEL(attention_upto_64_##name, AttentionParams, 256) { attention<T, 64>(p); }                                      \
  KERNEL(attention_upto_160_##name, AttentionParams, 256) { attention<T, 160>(p); }                                    \
  KERNEL(attention_upto_512_##name, AttentionParams, 256) { attention<T, 512>(p); }

ATTENTION(float, f32)
ATTENTION(f16, f16)
ATTENTION(bf16, bf16)
