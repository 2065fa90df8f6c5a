// Matrix products and convolutions on tensor cores. Their definitions are ops.Linear and ops.Conv.
//
//   x      [M K] or [B H W C]     w [N K]     out [M N]     16-bit, or float multiplied as tf32; sums in float
//   grid   (M/BM * N/BN, SPLITS), each rounded up
//   block  one warp per WM x WN of the tile
//   needs  channels a multiple of 8; with several splits N a multiple of 8
//
// v2: mma.m16n8k16 from a ring of shared tiles filled by asynchronous copies, fragments loaded one multiplication ahead.
// A convolution gathers its rows while it copies (implicit im2col): nothing of the size of the layer is written. A
// 16-byte copy never crosses a tap, and addresses are worked out anew where a tap ends, not for every copy.
// internal/ops/tile.go chooses the tile and the splits: with several, each block sums a part of k, and gemm_reduce adds
// the parts in order.
#pragma once
#include "epilogue_tensor.h"

enum { ROW = 64, CHUNKS = ROW / 16, TOGETHER = 8 }; // a row of a tile is 64 bytes of k

// Where a 16-byte chunk of a row lies in a shared tile. The exclusive-or spreads the eight rows that load_matrices reads
// at once over all banks. Rows 8 apart are alike, so that a thread adds constants to one such place.
DEVICE int slot(int row, int chunk) { return row * ROW + ((chunk ^ ((row >> 1) & 3)) << 4); }

// Gather walks one chunk of each row of x that a thread copies along k.
template <class T, bool conv, int rows> struct Gather {
  static constexpr int BK = ROW / (int)sizeof(T);
  const char *at[rows]; // the chunk, where its bit of there is set
  unsigned there;
  int c, ky, kx;                 // its channel and tap
  int corner[rows], image[rows]; // top left input pixel of each row, y in the upper half; first pixel of its image

  DEVICE void start(const GemmParams &p, int row0, int step, int k) {
    there = 0, c = k, ky = kx = 0;
    if (conv) {
      const int tap = k / p.channels;
      c = k - tap * p.channels, ky = tap / p.kw, kx = tap - ky * p.kw;
    }
#pragma unroll
    for (int i = 0; i < rows; i++) {
      const int r = row0 + i * step;
      if (conv) {
        const int b = r / p.out_pixels, o = r % p.out_pixels;
        const int y = o / p.out_width * p.stride - p.pad_top, x = o % p.out_width * p.stride - p.pad_left;
        image[i] = b * p.height * p.width;
        corner[i] = r < p.m ? (int)((unsigned)y << 16 | (x & 0xffff)) : -(1 << 30); // far above the image
      } else {
        at[i] = (const char *)p.x + (r < p.m ? ((int64_t)r * p.k + c) * (int)sizeof(T) : 0);
        if (r < p.m && c < p.k) there |= 1u << i;
      }
    }
    if (conv) tap(p);
  }

  // Works the addresses out for the tap.
  DEVICE void tap(const GemmParams &p) {
    there = 0;
#pragma unroll
    for (int i = 0; i < rows; i++) {
      const int iy = (corner[i] >> 16) + ky, ix = (short)corner[i] + kx;
      const bool inside = (ky < p.kh) & ((unsigned)iy < (unsigned)(p.height * p.up)) & ((unsigned)ix < (unsigned)(p.width * p.up));
      const int pixel = inside ? image[i] + (iy >> (p.up - 1)) * p.width + (ix >> (p.up - 1)) : 0;
      at[i] = (const char *)p.x + ((int64_t)pixel * p.channels + c) * (int)sizeof(T);
      there |= (unsigned)inside << i;
    }
  }

  DEVICE bool more(const GemmParams &p) const { return conv ? ky < p.kh : c < p.k; }

  DEVICE void next(const GemmParams &p) {
    c += BK;
    if (conv && c >= p.channels) {
      while (c >= p.channels) {
        c -= p.channels;
        if (++kx == p.kw) kx = 0, ky++;
      }
      tap(p);
      return;
    }
#pragma unroll
    for (int i = 0; i < rows; i++) at[i] += ROW;
    if (!conv && c >= p.k) there = 0;
  }
};

template <class T, int BM, int BN, int WM, int WN, int STAGES, bool conv> DEVICE void gemm(const GemmParams &p) {
  constexpr int warps_n = BN / WN, threads = BM / WM * warps_n * 32, step = threads / CHUNKS;
  constexpr int rows_a = BM / step, rows_b = (BN + step - 1) / step, MI = WM / 16, NJ = WN / 16;
  constexpr int size = sizeof(T), BK = ROW / size, KK = 2; // multiplications along k: of 32 bytes each
  constexpr int tile_a = BM * ROW, tile = tile_a + BN * ROW;
  char *shared = shared_memory();
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int wm = warp / warps_n * WM, wn = warp % warps_n * WN;

  // Tiles are taken a few rows of tiles at a time, so that those under way together share rows of x and of w.
  const int tiles_m = (p.m + BM - 1) / BM, tiles_n = (p.n + BN - 1) / BN;
  const int band = blockIdx.x / (TOGETHER * tiles_n) * TOGETHER, inside = blockIdx.x % (TOGETHER * tiles_n);
  const int high = tiles_m - band < TOGETHER ? tiles_m - band : TOGETHER;
  const int m0 = (band + inside % high) * BM, n0 = inside / high * BN;

  const int total = (p.k + BK - 1) / BK, part = blockIdx.y;
  const int first = (int)((int64_t)total * part / p.splits), steps = (int)((int64_t)total * (part + 1) / p.splits) - first;

  const int chunk = thread % CHUNKS, row0 = thread / CHUNKS;
  const int k = first * BK + chunk * (16 / size);
  Gather<T, conv, rows_a> gather;
  gather.start(p, m0 + row0, step, k);
  const char *w = (const char *)p.w + ((int64_t)weight_row(p, n0 + row0 < p.n ? n0 + row0 : 0) * p.k + k) * size;
  const int64_t stride = (int64_t)(p.act == GEGLU ? step / 2 : step) * p.k * size;
  const int rows_left = p.n - n0 - row0; // of w
  char *filled = shared + slot(row0, chunk);
  int filling = 0;
  auto copy = [&] {
    char *to = filled + filling * tile;
    filling = filling + 1 == STAGES ? 0 : filling + 1;
#pragma unroll
    for (int i = 0; i < rows_a; i++) copy16(to + i * step * ROW, gather.at[i], gather.there >> i & 1);
    const int left = gather.more(p) ? rows_left : 0;
#pragma unroll
    for (int i = 0; i < rows_b; i++) {
      if ((i + 1) * step > BN && row0 + i * step >= BN) break;
      copy16(to + tile_a + i * step * ROW, w + i * stride, i * step < left);
    }
    gather.next(p);
    w += ROW;
  };

  for (int s = 0; s < STAGES - 1; s++) {
    if (s < steps) copy();
    copy_commit();
  }
  copy_wait<STAGES - 2>();
  block_sync();

  float sum[MI][2 * NJ][4] = {};
  uint32_t fa[2][MI][4], fb[2][4];
  const char *a = shared + slot(wm + (lane & 15), lane >> 4);
  const char *b = shared + tile_a + slot(wn + (lane & 7) + (lane >> 4 << 3), lane >> 3 & 1);
  // Chunk i+2 of a row lies 32 bytes after or before chunk i, as bit 2 of the row has it, which is the lane's.
  const int flip = lane & 4 ? -32 : 32;
  auto load_a = [&](uint32_t (&f)[MI][4], int kk) {
#pragma unroll
    for (int i = 0; i < MI; i++) load_matrices(f[i], a + kk * flip + i * 16 * ROW), prepare(f[i], T());
  };
  auto load_b = [&](uint32_t (&f)[4], int kk, int j) { load_matrices(f, b + kk * flip + j * 16 * ROW), prepare(f, T()); };
  load_a(fa[0], 0);
  load_b(fb[0], 0, 0);
  int reading = 0;
  for (int s = 0; s < steps; s++) {
    if (s + STAGES - 1 < steps) copy(); // into the tile before this one, which all have read
    copy_commit();
#pragma unroll
    for (int kk = 0; kk < KK; kk++)
#pragma unroll
      for (int j = 0; j < NJ; j++) {
        const int now = (kk * NJ + j) % 2;
        if (j + 1 < NJ)
          load_b(fb[1 - now], kk, j + 1);
        else {
          if (kk + 1 == KK) {
            copy_wait<STAGES - 2>();
            block_sync(); // the next tile is there for all, and this one has been read by all
            const int on = reading + 1 == STAGES ? (1 - STAGES) * tile : tile;
            reading = reading + 1 == STAGES ? 0 : reading + 1;
            a += on, b += on;
          }
          load_a(fa[(kk + 1) % 2], (kk + 1) % KK);
          load_b(fb[1 - now], (kk + 1) % KK, 0);
        }
#pragma unroll
        for (int i = 0; i < MI; i++) {
          multiply_add(sum[i][2 * j], fa[kk % 2][i], fb[now][0], fb[now][1], T());
          multiply_add(sum[i][2 * j + 1], fa[kk % 2][i], fb[now][2], fb[now][3], T());
        }
      }
  }

  // Through shared memory, 16 rows of a warp at a time, so that a lane stores 16 bytes and neighbours neighbouring ones.
  block_sync();
  constexpr int wide = WN + 8;
  float *staged = (float *)shared + warp * 16 * wide;
#pragma unroll 1
  for (int i = 0; i < MI; i++) {
#pragma unroll
    for (int r = 0; r < MI; r++) // registers have no index
      if (r == i)
#pragma unroll
        for (int j = 0; j < 2 * NJ; j++)
#pragma unroll
          for (int e = 0; e < 4; e++) staged[(lane / 4 + e / 2 * 8) * wide + j * 8 + lane % 4 * 2 + e % 2] = sum[r][j][e];
    warp_sync();
#pragma unroll 1
    for (int e = lane; e < 16 * (WN / 8); e += 32) {
      const int row = e / (WN / 8), column = e % (WN / 8) * 8;
      const Four *from = (const Four *)(staged + row * wide + column);
      const Four l = from[0], h = from[1];
      float v[8] = {l.at[0], l.at[1], l.at[2], l.at[3], h.at[0], h.at[1], h.at[2], h.at[3]};
      put_eight<T>(p, part, m0 + wm + i * 16 + row, n0 + wn + column, v);
    }
    warp_sync();
  }
}

// Adds the parts of a product in their order, and finishes it.
//
//   grid  M*N/8/256, rounded up
//   block 256 threads: eight columns each
template <class T> DEVICE void reduce(const GemmParams &p) {
  const int64_t e = (int64_t)blockIdx.x * 256 + threadIdx.x, size = (int64_t)p.m * p.n;
  if (e * 8 >= size) return;
  float v[8] = {};
  for (int s = 0; s < p.splits; s++) {
    const float *from = p.partial + s * size + e * 8;
    add_four(v, from), add_four(v + 4, from + 4);
  }
  finish_eight<T>(p, (int)(e * 8 / p.n), (int)(e * 8 % p.n), v);
}

// All kernels of a type, in a file of their own: a driver compiles those it needs. The tiles are those that
// internal/ops/tile.go knows: rows, columns, those of a warp, and stages.
#define GEMM_TILE(T, type, BM, BN, WM, WN, STAGES)                                                                     \
  KERNEL(linear_##BM##x##BN##_##type, GemmParams, BM / WM * (BN / WN) * 32) { gemm<T, BM, BN, WM, WN, STAGES, false>(p); } \
  KERNEL(conv_##BM##x##BN##_##type, GemmParams, BM / WM * (BN / WN) * 32) { gemm<T, BM, BN, WM, WN, STAGES, true>(p); }
#define GEMM_KERNELS(T, type)                                                                                          \
  GEMM_TILE(T, type, 256, 128, 64, 64, 4)                                                                              \
  GEMM_TILE(T, type, 160, 160, 32, 80, 4)                                                                              \
  GEMM_TILE(T, type, 128, 160, 64, 80, 4)                                                                              \
  GEMM_TILE(T, type, 128, 128, 64, 64, 4)                                                                              \
  GEMM_TILE(T, type, 64, 160, 32, 80, 4)                                                                               \
  GEMM_TILE(T, type, 64, 64, 32, 32, 4)                                                                                \
  KERNEL(gemm_reduce_##type, GemmParams, 256) { reduce<T>(p); }
