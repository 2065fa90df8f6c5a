// Attention on tensor cores, without the SQ x SKV matrix (Dao et al. 2022). Its definition is ops.Attention.
//
//   q, out [B SQ HEADS*D]   k, v [B SKV KV_HEADS*D]   16-bit, softmax and sums in float
//   grid   (SQ / queries, B*HEADS, D / DV), rounded up
//   block  one warp per 16 MT queries
//
// v2: keys and values come through two shared tiles, one filled while the other is used; queries, scores and the
// running softmax stay in registers, but for the queries of heads of 80, 128 and 512. A warp has 32 queries where
// registers allow: what it loads of a tile then serves two multiplications. Rows of D are padded to a multiple of 16
// with zeros, and to an odd number of 16-byte chunks, which spreads them over the banks. A block keeps DV columns of
// the result: heads of 512 are split, and their scores computed once per part.
//
// Heads of 128 take tiles of 32 keys: with 64 registers spill on sm_90, and 102 KiB of shared memory are more than
// sm_86 has.
#pragma once
#include "attention.h"

// Copies the first D columns of COUNT rows, or zeros from row left on, to rows of STRIDE bytes. Columns D to WIDE are
// zeros. The threads that copy take whole rows, so that from row to row addresses differ by constants.
template <int D, int WIDE, int COUNT, int THREADS, int STRIDE>
DEVICE void copy_rows(char *to, const void *from, int64_t row_bytes, int left) {
  constexpr int chunks = WIDE / 8, together = THREADS / chunks;
  const int row = threadIdx.x / chunks, chunk = threadIdx.x % chunks;
  if (row >= together) return;
  to += row * STRIDE + chunk * 16;
  const char *source = (const char *)from + row * row_bytes + chunk * 16;
#pragma unroll
  for (int r = 0; r < COUNT; r += together) {
    if (r + together > COUNT && row + r >= COUNT) break;
    copy16(to + r * STRIDE, source, row + r < left && chunk < D / 8);
    source += together * row_bytes;
  }
}

// Scales a tile's scores and adds the bias. Lanes have them as multiply_add leaves them; query is the first of the
// lane.
template <class T, int MT, int TILES>
DEVICE void add_bias(const GeneralAttentionParams &p, float (&s)[MT][TILES][4], int query, int key) {
  key += threadIdx.x % 4 * 2;
#pragma unroll
  for (int m = 0; m < MT; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int r = query + m * 16 + h * 8;
      const T *row = (const T *)p.bias + (r < p.sq ? r : 0) * p.bias_row + key;
#pragma unroll
      for (int j = 0; j < TILES; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float &v = s[m][j][2 * h + e];
          v = v * p.scale + (key + j * 8 + e < p.skv ? to_float(row[j * 8 + e]) : 0.f);
        }
    }
}

template <class T, int D, int DV, int WARPS, int MT, int KEYS, bool held, class P> DEVICE void attention(const P &p) {
  constexpr bool general = General<P>::value;
  constexpr int DP = (D + 15) / 16 * 16, DVP = (DV + 15) / 16 * 16, QUERIES = WARPS * MT * 16, THREADS = WARPS * 32;
  constexpr int row_k = DP * 2 + 16, row_v = DVP * 2 + 16, tile = KEYS * (row_k + row_v);
  static_assert(!held || QUERIES * row_k <= tile, "queries come through the second tile");
  char *tiles = held ? shared_memory() : shared_memory() + QUERIES * row_k, *sq = held ? tiles + tile : shared_memory();
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int q0 = blockIdx.x * QUERIES, b = blockIdx.y / p.heads, head = blockIdx.y % p.heads, column = blockIdx.z * DV;
  const int64_t width = (int64_t)p.heads * D;
  const T *q = (const T *)p.q + ((int64_t)b * p.sq + q0) * width + head * D;
  int64_t width_k = width; // of rows of k and v
  const T *k, *v;
  if constexpr (general) {
    width_k = (int64_t)p.kv_heads * D;
    k = (const T *)p.k, v = (const T *)p.v + column;
  } else {
    k = (const T *)p.k + (int64_t)b * p.skv * width + head * D;
    v = (const T *)p.v + (int64_t)b * p.skv * width + head * D + column;
  }
  const int64_t step = width_k * KEYS;

  int left = p.skv; // keys from the next tile on
  auto copy_tile = [&](char *to) {
    copy_rows<D, DP, KEYS, THREADS, row_k>(to, k, width_k * 2, left);
    copy_rows<DV, DV, KEYS, THREADS, row_v>(to + KEYS * row_k, v, width_k * 2, left);
    k += step, v += step, left -= KEYS;
  };
  const int seen = p.causal && q0 + QUERIES < p.skv ? q0 + QUERIES : p.skv;
  const int count = (seen + KEYS - 1) / KEYS;
  copy_rows<D, DP, QUERIES, THREADS, row_k>(sq, q, width * 2, p.sq - q0);
  copy_tile(tiles);
  copy_commit();

  uint32_t fq[held ? DP / 16 : 1][MT][4];
  auto load_q = [&](uint32_t (&f)[MT][4], int d) {
#pragma unroll
    for (int m = 0; m < MT; m++)
      load_matrices(f[m], sq + ((warp * MT + m) * 16 + (lane & 15)) * row_k + d * 2 + (lane >> 4) * 16);
  };
  if (held) {
    copy_wait<0>();
    block_sync();
#pragma unroll
    for (int d = 0; d < DP; d += 16) load_q(fq[d / 16], d);
  }

  float sum[MT][DVP / 8][4] = {}, top[MT][2], total[MT][2] = {};
#pragma unroll
  for (int m = 0; m < MT; m++) top[m][0] = top[m][1] = general ? minus_infinity() : -1e30f;
  // Powers of two from here on. What comes with a bias is scaled before it is added.
  bool with_bias = false;
  if constexpr (general) with_bias = p.bias;
  const float scale = (with_bias ? 1.f : p.scale) * 1.44269504f;
  const int query = q0 + warp * MT * 16 + lane / 4;
  for (int t = 0; t < count; t++) {
    copy_wait<0>();
    block_sync(); // the tile is there for all, and the one before it has been read by all
    if (t + 1 < count) copy_tile(tiles + (t + 1) % 2 * tile);
    copy_commit();
    const char *sk = tiles + t % 2 * tile, *sv = sk + KEYS * row_k;

    float s[MT][KEYS / 8][4] = {};
#pragma unroll
    for (int d = 0; d < DP; d += 16) {
      auto &f = fq[held ? d / 16 : 0];
      if (!held) load_q(f, d);
#pragma unroll
      for (int j = 0; j < KEYS / 16; j++) {
        uint32_t fk[4];
        load_matrices(fk, sk + (j * 16 + (lane & 7) + (lane >> 4 << 3)) * row_k + d * 2 + (lane >> 3 & 1) * 16);
#pragma unroll
        for (int m = 0; m < MT; m++) {
          multiply_add(s[m][2 * j], f[m], fk[0], fk[1], T());
          multiply_add(s[m][2 * j + 1], f[m], fk[2], fk[3], T());
        }
      }
    }

    if constexpr (general)
      if (with_bias) add_bias<T>(p, s, query, t * KEYS);

    // Lane l has queries l/4 and l/4+8 of each 16, and of each eight keys 2(l%4) and the next.
    const int first = t * KEYS;
    if (first + KEYS > p.skv || (p.causal && first + KEYS > q0)) {
#pragma unroll
      for (int m = 0; m < MT; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const int last = p.causal && query + m * 16 + h * 8 < p.skv ? query + m * 16 + h * 8 : p.skv - 1;
          const int most = last - first - lane % 4 * 2;
#pragma unroll
          for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
              if (j * 8 + e > most) s[m][j][2 * h + e] = minus_infinity();
        }
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        float high = top[m][h];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) high = fmaxf(high, fmaxf(s[m][j][2 * h], s[m][j][2 * h + 1]));
        high = fmaxf(high, shuffle_xor(high, 1));
        high = fmaxf(high, shuffle_xor(high, 2));
        const float from = general ? origin_of(high) : high;
        const float shrink = exp2_approx((top[m][h] - from) * scale), origin = from * scale;
        top[m][h] = high;
        float part = 0;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; e++) {
            // Lowest numbers, which masks are made of, do not overflow where the difference is taken first.
            const float power = general ? (s[m][j][e] - from) * scale : s[m][j][e] * scale - origin;
            part += s[m][j][e] = exp2_approx(power);
          }
        total[m][h] = total[m][h] * shrink + part;
#pragma unroll
        for (int j = 0; j < DVP / 8; j++) sum[m][j][2 * h] *= shrink, sum[m][j][2 * h + 1] *= shrink;
      }

#pragma unroll
    for (int i = 0; i < KEYS / 16; i++) {
      uint32_t fp[MT][4];
#pragma unroll
      for (int m = 0; m < MT; m++)
#pragma unroll
        for (int h = 0; h < 4; h++)
          fp[m][h] = pack2(s[m][2 * i + h / 2][h % 2 * 2], s[m][2 * i + h / 2][h % 2 * 2 + 1], T());
#pragma unroll
      for (int j = 0; j < DVP / 16; j++) {
        uint32_t fv[4];
        load_matrices_trans(fv, sv + (i * 16 + (lane & 7) + (lane >> 3 & 1) * 8) * row_v + j * 32 + (lane >> 4) * 16);
#pragma unroll
        for (int m = 0; m < MT; m++) {
          multiply_add(sum[m][2 * j], fp[m], fv[0], fv[1], T());
          if (2 * j + 1 < DV / 8) multiply_add(sum[m][2 * j + 1], fp[m], fv[2], fv[3], T());
        }
      }
    }
  }

#pragma unroll
  for (int m = 0; m < MT; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float all = total[m][h];
      all += shuffle_xor(all, 1);
      all += shuffle_xor(all, 2);
      const float inverse = general && all == 0 ? 0.f : 1.f / all;
      const int r = query + m * 16 + h * 8;
      if (r >= p.sq) continue;
      uint32_t *out = (uint32_t *)((T *)p.out + ((int64_t)b * p.sq + r) * width + head * D + column);
#pragma unroll
      for (int j = 0; j < DV / 8; j++)
        out[j * 4 + lane % 4] = pack2(sum[m][j][2 * h] * inverse, sum[m][j][2 * h + 1] * inverse, T());
    }
}
