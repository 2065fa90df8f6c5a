// Matrix products and convolutions on the tensor cores of compute capability 9.0. Their definitions are layers.linear and
// layers.conv.
//
//   x      [M K] or [B H W C]     w [N K]     out [M N]     16-bit, sums in float
//   grid   as many blocks as multiprocessors, or as tiles of 128 BN if those are fewer; a block takes every grid-th tile
//   block  two warpgroups that multiply, each 64 rows of the tile, and one that fills the ring of shared tiles for them
//   needs  channels (of a linear, K) a multiple of 8; BN 128, 160 or 256: 160 divides 320, 640, 1280 and their multiples
//
// v1: wgmma from a ring that is filled ahead; see Note [Hopper] in hopper.h. The weight's tile, and that of a linear's x,
// comes by bulk copies of the tensor maps, which one thread issues. A convolution's x is gathered with cp.async by all
// threads of the third warpgroup, as gemm_tensor.cu does it: bulk copies have a mode for convolutions, but none that reads an
// image as if enlarged. A gathering thread waits for its copies, makes them known to the async proxy, and only then arrives:
// the order that the ISA's memory model states, where an arrival by the copies themselves would leave the fence to readers.
//
// A tile's weight rows come in two boxes of BN/2: with GEGLU those are rows of values and the rows of their gates, and a
// column and its gate are in registers of the same thread.
#include "hopper.h"
#include "epilogue.h"

struct HopperParams {
  TensorMap x, w; // x of linears: boxes of 128 rows; w: of BN/2 rows; both of 64 columns
  GemmParams gemm;
};

enum { BM = 128, BK = 64, ROW = BK * 2, GROUP = 128, CONSUMERS = 2 * GROUP, THREADS = 3 * GROUP };

// How many rounds of copies a gathering thread has under way. A stage is free when the product after it has begun, so
// that more than STAGES-2 would be waited for by both sides.
enum { BEHIND = 1 };

// The shared memory of a block, in bytes. layers/hopper.go has the same numbers.
template <int BN> struct Layout {
  enum { STAGES = BN == 256 ? 4 : BN == 160 ? 5 : 6, A = BM * ROW, TILE = A + BN * ROW };
  enum { STAGING = STAGES * TILE, BARRIERS = STAGING + CONSUMERS / 32 * 16 * 34 * 4 };
  char *base;       // a multiple of 1,024 in shared memory
  uint32_t address; // its address there

  DEVICE Layout() {
    base = shared_memory();
    uint32_t from = shared_address(base);
    address = (from + 1023) & ~1023u;
    base += address - from;
  }
  DEVICE uint32_t full(int stage) const { return address + BARRIERS + stage * 8; }
  DEVICE uint32_t empty(int stage) const { return address + BARRIERS + (STAGES + stage) * 8; }
};

// Where one side is in the ring.
template <int STAGES> struct Place {
  int stage = 0;
  uint32_t parity = 0;
  DEVICE void next() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

// Tiles, in the order in which the blocks take them: neighbouring ones share rows of x.
template <int BN> struct Tiles {
  int across, count, steps;
  DEVICE Tiles(const GemmParams &p) {
    across = (p.n + BN - 1) / BN, count = (p.m + BM - 1) / BM * across, steps = (p.k + BK - 1) / BK;
  }
  DEVICE int row(int tile) const { return tile / across * BM; }
  DEVICE int column(int tile) const { return tile % across * BN; }
};

// Has the tile of the weight brought, and of x if it is a linear's. One thread calls it.
template <int BN, bool conv> DEVICE void fetch(const HopperParams &h, const Layout<BN> &s, int stage, int m0, int n0, int k0) {
  const int half = h.gemm.act == GEGLU ? h.gemm.n / 2 : BN / 2, first = h.gemm.act == GEGLU ? n0 / 2 : n0;
  const uint32_t a = s.address + stage * s.TILE, b = a + s.A, full = s.full(stage);
  barrier_arrive_expect(full, conv ? BN * ROW : s.TILE);
  if (!conv) copy_box(a, &h.x, k0, m0, full);
  copy_box(b, &h.w, k0, first, full);
  copy_box(b + BN / 2 * ROW, &h.w, k0, first + half, full);
}

template <int BN> DEVICE void produce_linear(const HopperParams &h, const Layout<BN> &s) {
  const Tiles<BN> tiles(h.gemm);
  Place<Layout<BN>::STAGES> at;
  for (int tile = blockIdx.x; tile < tiles.count; tile += gridDim.x)
    for (int step = 0; step < tiles.steps; step++, at.next()) {
      barrier_wait(s.empty(at.stage), at.parity ^ 1);
      fetch<BN, false>(h, s, at.stage, tiles.row(tile), tiles.column(tile), step * BK);
    }
}

// Gather copies one chunk of eight rows of a convolution's x, and walks along k.
struct Gather {
  enum { ROWS = 8, APART = GROUP / 8 };
  int c, ky, kx;        // channel and tap of the chunk
  int y[ROWS], x[ROWS]; // top left input pixel of each row, y far above the image if the row is outside
  int image[ROWS];      // first pixel of its image

  DEVICE void start(const GemmParams &p, int row0, int chunk) {
    c = chunk * 8, ky = kx = 0;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      int r = row0 + i * APART, b = r / p.out_pixels, o = r % p.out_pixels;
      image[i] = b * p.height * p.width;
      y[i] = r < p.m ? o / p.out_width * p.stride - p.pad_top : -(1 << 20);
      x[i] = o % p.out_width * p.stride - p.pad_left;
    }
    wrap(p);
  }

  DEVICE void wrap(const GemmParams &p) {
    while (c >= p.channels) {
      c -= p.channels;
      if (++kx == p.kw) kx = 0, ky++;
    }
  }

  // to is where the chunk of the first row goes; the others are whole groups of eight rows further.
  template <class T> DEVICE void copy(const GemmParams &p, char *to) const {
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      int iy = y[i] + ky, ix = x[i] + kx;
      bool there = ky < p.kh && iy >= 0 && ix >= 0 && iy < p.height * p.up && ix < p.width * p.up;
      int64_t pixel = image[i] + (iy >> (p.up - 1)) * p.width + (ix >> (p.up - 1));
      copy16(to + i * APART * ROW, (const T *)p.x + (there ? pixel * p.channels + c : 0), there);
    }
  }
};

template <class T, int BN> DEVICE void produce_conv(const HopperParams &h, const Layout<BN> &s) {
  const GemmParams &p = h.gemm;
  const Tiles<BN> tiles(p);
  const int thread = threadIdx.x - CONSUMERS, chunk = thread % 8, row0 = thread / 8;
  char *to = s.base + row0 * ROW + ((chunk ^ (row0 & 7)) << 4);
  Gather gather;
  Place<Layout<BN>::STAGES> at, landed;
  int behind = 0;
  for (int tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
    const int m0 = tiles.row(tile), n0 = tiles.column(tile);
    gather.start(p, m0 + row0, chunk);
    for (int step = 0; step < tiles.steps; step++, at.next()) {
      barrier_wait(s.empty(at.stage), at.parity ^ 1);
      if (thread == 0) fetch<BN, true>(h, s, at.stage, m0, n0, step * BK);
      gather.copy<T>(p, to + at.stage * s.TILE);
      copy_commit();
      gather.c += BK;
      gather.wrap(p);
      if (behind < BEHIND) {
        behind++;
        continue;
      }
      copy_wait<BEHIND>();
      fence_proxy_async();
      barrier_arrive(s.full(landed.stage));
      landed.next();
    }
  }
  copy_wait<0>();
  fence_proxy_async();
  for (; behind > 0; behind--, landed.next()) barrier_arrive(s.full(landed.stage));
}

// Puts 32 columns of a warp's sums into shared memory, those from column 32 group on. With a gate, they are 16 columns and
// their gates, which are in the second half of the sums.
template <int BN, bool gate> DEVICE void stage(float (*staged)[34], const float (&sum)[BN / 2], int group) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int j = 0; j < 4; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
      if (gate)
        staged[row][(j % 2 * 8 + column) * 2 + j / 2] = sum[(group * 2 + j % 2 + j / 2 * (BN / 16)) * 4 + e];
      else
        staged[row][j * 8 + column] = sum[(group * 4 + j) * 4 + e];
    }
}

// Stores a warp's 16 rows of a tile, through shared memory so that neighbouring lanes store neighbouring columns.
template <class T, int BN> DEVICE void store(const GemmParams &p, float (*staged)[34], int row0, int n0, const float (&sum)[BN / 2]) {
#pragma unroll
  for (int group = 0; group < BN / 32; group++) {
    if (p.act == GEGLU)
      stage<BN, true>(staged, sum, group);
    else
      stage<BN, false>(staged, sum, group);
    warp_sync();
#pragma unroll 1
    for (int e = threadIdx.x & 31; e < 16 * 16; e += 32)
      store_pair<T>(p, row0 + e / 16, n0 + group * 32 + e % 16 * 2, staged[e / 16][e % 16 * 2], staged[e / 16][e % 16 * 2 + 1]);
    warp_sync();
  }
}

template <class T, int BN> DEVICE void consume(const GemmParams &p, const Layout<BN> &s) {
  const Tiles<BN> tiles(p);
  const int warp = threadIdx.x / 32, group = threadIdx.x / GROUP;
  const bool speaks = threadIdx.x % 32 == 0; // for its warp, whose products are done when the wait says so
  float(*staged)[34] = (float(*)[34])(s.base + s.STAGING) + warp * 16;
  Place<Layout<BN>::STAGES> at;
  for (int tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
    // Zeros and not a first product that keeps nothing: with that, ptxas (12.0 to 12.8) serializes the products.
    float sum[BN / 2] = {};
    int before = -1;
    for (int step = 0; step < tiles.steps; step++, at.next()) {
      barrier_wait(s.full(at.stage), at.parity);
      const uint32_t a = s.address + at.stage * s.TILE;
      const uint64_t da = tile_descriptor(a + group * 64 * ROW), db = tile_descriptor(a + s.A);
      products_fence();
#pragma unroll
      for (int k = 0; k < BK / 16; k++) product(sum, da + 2 * k, db + 2 * k, T());
      products_commit();
      products_wait<1>(); // those of the stage before are done
      if (before >= 0 && speaks) barrier_arrive(s.empty(before));
      before = at.stage;
    }
    products_wait<0>();
    products_settle(sum);
    if (speaks) barrier_arrive(s.empty(before));
    store<T, BN>(p, staged, tiles.row(tile) + warp * 16, tiles.column(tile), sum);
  }
}

template <class T, int BN, bool conv> DEVICE void gemm(const HopperParams &h) {
  const Layout<BN> s;
  if (threadIdx.x == 0) {
    for (int i = 0; i < s.STAGES; i++) {
      barrier_init(s.full(i), conv ? 1 + GROUP : 1);
      barrier_init(s.empty(i), CONSUMERS / 32);
    }
    barriers_ready();
  }
  block_sync();
  if (threadIdx.x < CONSUMERS)
    consume<T, BN>(h.gemm, s);
  else if (conv)
    produce_conv<T, BN>(h, s);
  else if (threadIdx.x == CONSUMERS)
    produce_linear<BN>(h, s);
}

#define KERNELS(BN)                                                                                   \
  KERNEL_CONSTANT(hopper_linear_##BN##_f16, HopperParams, THREADS) { gemm<f16, BN, false>(p); }       \
  KERNEL_CONSTANT(hopper_linear_##BN##_bf16, HopperParams, THREADS) { gemm<bf16, BN, false>(p); }     \
  KERNEL_CONSTANT(hopper_conv_##BN##_f16, HopperParams, THREADS) { gemm<f16, BN, true>(p); }          \
  KERNEL_CONSTANT(hopper_conv_##BN##_bf16, HopperParams, THREADS) { gemm<bf16, BN, true>(p); }
KERNELS(128)
KERNELS(160)
KERNELS(256)
