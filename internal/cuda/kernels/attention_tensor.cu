// Attention on tensor cores, without the SQ x SKV matrix (Dao et al. 2022). Its definition is layers.attention.
//
//   q, out [B SQ HEADS*D]   k, v [B SKV HEADS*D]   16-bit, softmax and sums in float
//   grid   (SQ / queries, B*HEADS, D / DV), rounded up
//   block  one warp per 16 queries
//
// v1: keys and values come through two shared tiles; the scores and the running softmax stay in registers. Rows of D are
// padded to a multiple of 16 with zeros, and to an odd number of 16-byte chunks, which spreads them over the banks.
// A block keeps DV columns of the result: heads of 512 are split, and their scores computed once per part.
#include "attention.h"

template <class T, int D, int DV, int WARPS, int KEYS> DEVICE void attention(const AttentionParams &p) {
  constexpr int DP = (D + 15) / 16 * 16, DVP = (DV + 15) / 16 * 16, QUERIES = WARPS * 16, THREADS = WARPS * 32;
  constexpr int row_k = DP * 2 + 16, row_v = DVP * 2 + 16, tile = KEYS * (row_k + row_v);
  char *sq = shared_memory(), *tiles = sq + QUERIES * row_k;
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int q0 = blockIdx.x * QUERIES, b = blockIdx.y / p.heads, head = blockIdx.y % p.heads, column = blockIdx.z * DV;
  const int64_t width = (int64_t)p.heads * D;
  const T *q = (const T *)p.q + (int64_t)b * p.sq * width + head * D;
  const T *k = (const T *)p.k + (int64_t)b * p.skv * width + head * D;
  const T *v = (const T *)p.v + (int64_t)b * p.skv * width + head * D + column;

  // Copies rows first.. of a [rows width] matrix, of which the first d columns count.
  auto copy = [&](char *to, int stride, int count, int wide, const T *from, int first, int rows, int d) {
    for (int e = thread; e < count * (wide / 8); e += THREADS) {
      int r = e / (wide / 8), c = e % (wide / 8) * 8;
      bool there = first + r < rows && c < d;
      copy16(to + r * stride + c * 2, from + (there ? (first + r) * width + c : 0), there);
    }
  };
  auto copy_tile = [&](int t) {
    char *to = tiles + t % 2 * tile;
    copy(to, row_k, KEYS, DP, k, t * KEYS, p.skv, D);
    copy(to + KEYS * row_k, row_v, KEYS, DVP, v, t * KEYS, p.skv, DV);
  };

  const int seen = p.causal && q0 + QUERIES < p.skv ? q0 + QUERIES : p.skv;
  const int count = (seen + KEYS - 1) / KEYS;
  copy(sq, row_k, QUERIES, DP, q, q0, p.sq, D);
  copy_tile(0);
  copy_commit();

  float sum[DVP / 8][4] = {}, top[2] = {-1e30f, -1e30f}, total[2] = {};
  const float scale = p.scale * 1.44269504f; // powers of two from here on
  for (int t = 0; t < count; t++) {
    if (t + 1 < count) copy_tile(t + 1);
    copy_commit();
    copy_wait<1>();
    block_sync();
    const char *sk = tiles + t % 2 * tile, *sv = sk + KEYS * row_k;

    float s[KEYS / 8][4] = {};
#pragma unroll
    for (int d = 0; d < DP; d += 16) {
      uint32_t fq[4];
      load_matrices(fq, sq + (warp * 16 + (lane & 15)) * row_k + d * 2 + (lane >> 4) * 16);
#pragma unroll
      for (int j = 0; j < KEYS / 16; j++) {
        uint32_t fk[4];
        load_matrices(fk, sk + (j * 16 + (lane & 7) + (lane >> 4 << 3)) * row_k + d * 2 + (lane >> 3 & 1) * 16);
        multiply_add(s[2 * j], fq, fk[0], fk[1], T());
        multiply_add(s[2 * j + 1], fq, fk[2], fk[3], T());
      }
    }

    // Lane l has queries l/4 and l/4+8 of its warp, and of each eight keys 2(l%4) and the next.
    float high[2] = {top[0], top[1]};
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int key = t * KEYS + j * 8 + lane % 4 * 2 + e % 2, query = q0 + warp * 16 + lane / 4 + e / 2 * 8;
        s[j][e] = key < p.skv && (!p.causal || key <= query) ? s[j][e] * scale : minus_infinity();
        high[e / 2] = fmaxf(high[e / 2], s[j][e]);
      }
    float shrink[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      high[h] = fmaxf(high[h], shuffle_xor(high[h], 1));
      high[h] = fmaxf(high[h], shuffle_xor(high[h], 2));
      shrink[h] = exp2_approx(top[h] - high[h]);
      top[h] = high[h];
      total[h] *= shrink[h];
    }
#pragma unroll
    for (int j = 0; j < DVP / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[j][e] *= shrink[e / 2];
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        s[j][e] = exp2_approx(s[j][e] - top[e / 2]);
        total[e / 2] += s[j][e];
      }

#pragma unroll
    for (int i = 0; i < KEYS / 16; i++) {
      uint32_t fp[4] = {pack2(s[2 * i][0], s[2 * i][1], T()), pack2(s[2 * i][2], s[2 * i][3], T()),
                        pack2(s[2 * i + 1][0], s[2 * i + 1][1], T()), pack2(s[2 * i + 1][2], s[2 * i + 1][3], T())};
#pragma unroll
      for (int j = 0; j < DVP / 16; j++) {
        uint32_t fv[4];
        load_matrices_trans(fv, sv + (i * 16 + (lane & 7) + (lane >> 3 & 1) * 8) * row_v + j * 32 + (lane >> 4) * 16);
        multiply_add(sum[2 * j], fp, fv[0], fv[1], T());
        if (2 * j + 1 < DV / 8) multiply_add(sum[2 * j + 1], fp, fv[2], fv[3], T());
      }
    }
    block_sync(); // the tile has been read by all
  }

#pragma unroll
  for (int h = 0; h < 2; h++) {
    total[h] += shuffle_xor(total[h], 1);
    total[h] += shuffle_xor(total[h], 2);
    int query = q0 + warp * 16 + lane / 4 + h * 8;
    if (query >= p.sq) continue;
    uint32_t *out = (uint32_t *)((T *)p.out + ((int64_t)b * p.sq + query) * width + head * D + column);
#pragma unroll
    for (int j = 0; j < DV / 8; j++) out[j * 4 + lane % 4] = pack2(sum[j][2 * h] / total[h], sum[j][2 * h + 1] / total[h], T());
  }
}

#define ATTENTION(D, DV, WARPS, KEYS)                                                                                  \
  KERNEL(attention_##D##_f16, AttentionParams, WARPS * 32) { attention<f16, D, DV, WARPS, KEYS>(p); }                  \
  KERNEL(attention_##D##_bf16, AttentionParams, WARPS * 32) { attention<bf16, D, DV, WARPS, KEYS>(p); }

ATTENTION(40, 40, 4, 64)
ATTENTION(64, 64, 4, 64)
ATTENTION(80, 80, 4, 64)
ATTENTION(160, 160, 4, 32)
ATTENTION(512, 128, 2, 16)
