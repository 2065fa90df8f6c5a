// Matrix products and convolutions on tensor cores. Their definitions are layers.linear and layers.conv.
//
//   x      [M K] or [B H W C]     w [N K]     out [M N]     16-bit, sums in float
//   grid   M/BM * N/BN, each rounded up; neighbouring blocks share rows of x
//   block  one warp per WM x 32 of the tile
//   needs  channels a multiple of 8
//
// v1: mma.m16n8k16 from a ring of three shared tiles filled by asynchronous copies. A convolution gathers its rows while
// it copies (implicit im2col): nothing of the size of the layer is written. A 16-byte copy never crosses a tap.
#include "epilogue.h"

enum { BK = 32, STAGES = 3, ROW = BK * 2, CHUNKS = ROW / 16 };

// Where a 16-byte chunk of a row lies in a shared tile. The exclusive-or spreads the eight rows that load_matrices reads
// at once over all banks.
DEVICE int slot(int row, int chunk) { return row * ROW + ((chunk ^ ((row >> 1) & 3)) << 4); }

// Gather walks one chunk of the rows that a thread copies along k.
template <bool conv, int rows> struct Gather {
  int c, ky, kx;        // channel and tap of the chunk
  int y[rows], x[rows]; // top left input pixel of each row, y below -kh if the row is outside
  int64_t image[rows];  // first pixel of its image

  DEVICE void start(const GemmParams &p, int row0, int step, int chunk) {
    c = chunk * 8, ky = kx = 0;
#pragma unroll
    for (int i = 0; i < rows; i++) {
      int r = row0 + i * step;
      image[i] = r, x[i] = 0, y[i] = r < p.m ? 0 : -(1 << 20);
      if (conv && r < p.m) {
        int b = r / p.out_pixels, o = r % p.out_pixels;
        image[i] = (int64_t)b * p.height * p.width;
        y[i] = o / p.out_width * p.stride - p.pad_top;
        x[i] = o % p.out_width * p.stride - p.pad_left;
      }
    }
    if (conv) wrap(p);
  }

  DEVICE void wrap(const GemmParams &p) {
    while (c >= p.channels) {
      c -= p.channels;
      if (++kx == p.kw) kx = 0, ky++;
    }
  }

  DEVICE void next(const GemmParams &p) {
    c += BK;
    if (conv) wrap(p);
  }

  // The address of row i's chunk in elements, or -1 where there are zeros.
  DEVICE int64_t at(const GemmParams &p, int i) const {
    if (!conv) return c < p.k && y[i] == 0 ? image[i] * p.k + c : -1;
    int iy = y[i] + ky, ix = x[i] + kx;
    if (ky >= p.kh || iy < 0 || ix < 0 || iy >= p.height * p.up || ix >= p.width * p.up) return -1;
    return (image[i] + (int64_t)(iy >> (p.up - 1)) * p.width + (ix >> (p.up - 1))) * p.channels + c;
  }
};

template <class T, int BM, int BN, int WM, bool conv> DEVICE void gemm(const GemmParams &p) {
  constexpr int warps_n = BN / 32, threads = BM / WM * warps_n * 32;
  constexpr int rows_a = BM * CHUNKS / threads, rows_b = BN * CHUNKS / threads, step = threads / CHUNKS;
  constexpr int tile_a = BM * ROW, tile = tile_a + BN * ROW;
  char *shared = shared_memory();
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int tiles_n = (p.n + BN - 1) / BN, m0 = blockIdx.x / tiles_n * BM, n0 = blockIdx.x % tiles_n * BN;
  const int wm = warp / warps_n * WM, wn = warp % warps_n * 32;
  const T *x = (const T *)p.x, *w = (const T *)p.w;

  const int chunk = thread % CHUNKS, row0 = thread / CHUNKS;
  Gather<conv, rows_a> gather;
  gather.start(p, m0 + row0, step, chunk);
  int k = chunk * 8;
  auto copy = [&](int stage) {
    char *a = shared + stage * tile, *b = a + tile_a;
#pragma unroll
    for (int i = 0; i < rows_a; i++) {
      int64_t at = gather.at(p, i);
      copy16(a + slot(row0 + i * step, chunk), x + (at < 0 ? 0 : at), at >= 0);
    }
#pragma unroll
    for (int i = 0; i < rows_b; i++) {
      int n = n0 + row0 + i * step;
      bool there = n < p.n && k < p.k;
      copy16(b + slot(row0 + i * step, chunk), w + (there ? (int64_t)weight_row(p, n) * p.k + k : 0), there);
    }
    gather.next(p);
    k += BK;
  };

  float sum[WM / 16][4][4] = {};
  const int steps = (p.k + BK - 1) / BK;
  for (int s = 0; s < STAGES - 1; s++) {
    if (s < steps) copy(s);
    copy_commit();
  }
  for (int s = 0; s < steps; s++) {
    copy_wait<STAGES - 2>();
    block_sync(); // the tile is there for all, and the one before it has been read by all
    if (s + STAGES - 1 < steps) copy((s + STAGES - 1) % STAGES);
    copy_commit();

    const char *a = shared + s % STAGES * tile, *b = a + tile_a;
#pragma unroll
    for (int kk = 0; kk < BK / 16; kk++) {
      uint32_t fa[WM / 16][4], fb[2][4];
#pragma unroll
      for (int i = 0; i < WM / 16; i++) load_matrices(fa[i], a + slot(wm + i * 16 + (lane & 15), kk * 2 + (lane >> 4)));
#pragma unroll
      for (int j = 0; j < 2; j++)
        load_matrices(fb[j], b + slot(wn + j * 16 + (lane & 7) + (lane >> 4 << 3), kk * 2 + (lane >> 3 & 1)));
#pragma unroll
      for (int i = 0; i < WM / 16; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) multiply_add(sum[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1], T());
    }
  }

  // Through shared memory, 16 rows of a warp at a time, so that neighbouring lanes store neighbouring columns.
  block_sync();
  float(*staged)[34] = (float(*)[34])shared + warp * 16;
#pragma unroll
  for (int i = 0; i < WM / 16; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) staged[lane / 4 + e / 2 * 8][j * 8 + lane % 4 * 2 + e % 2] = sum[i][j][e];
    warp_sync();
#pragma unroll 1
    for (int e = lane; e < 16 * 16; e += 32)
      store_pair<T>(p, m0 + wm + i * 16 + e / 16, n0 + wn + e % 16 * 2, staged[e / 16][e % 16 * 2], staged[e / 16][e % 16 * 2 + 1]);
    warp_sync();
  }
}

KERNEL(linear_128_f16, GemmParams, 256) { gemm<f16, 128, 128, 64, false>(p); }
KERNEL(linear_128_bf16, GemmParams, 256) { gemm<bf16, 128, 128, 64, false>(p); }
KERNEL(linear_64_f16, GemmParams, 128) { gemm<f16, 64, 64, 32, false>(p); }
KERNEL(linear_64_bf16, GemmParams, 128) { gemm<bf16, 64, 64, 32, false>(p); }
KERNEL(conv_128_f16, GemmParams, 256) { gemm<f16, 128, 128, 64, true>(p); }
KERNEL(conv_128_bf16, GemmParams, 256) { gemm<bf16, 128, 128, 64, true>(p); }
KERNEL(conv_64_f16, GemmParams, 128) { gemm<f16, 64, 64, 32, true>(p); }
KERNEL(conv_64_bf16, GemmParams, 128) { gemm<bf16, 64, 64, 32, true>(p); }
