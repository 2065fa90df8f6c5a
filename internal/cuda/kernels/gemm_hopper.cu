// Matrix products and convolutions on the tensor cores of compute capability 9.0. Their definitions are ops.Linear and
// ops.Conv.
//
//   x      [M K] or [B H W C]     w [N K]     out [M N]     16-bit, sums in float
//   grid   as many blocks as multiprocessors, or as tiles of 128 BN if those are fewer; a block takes every grid-th tile
//   block  two warpgroups that multiply, each 64 rows of the tile, and one that fills the ring of shared tiles for them
//   needs  channels (of a linear, K) a multiple of 8; BN 128, 160 or 256: 160 divides 320, 640, 1280 and their multiples
//
// v1: wgmma from a ring that is filled ahead; see Note [Hopper] in hopper.h. The weight's tile, and that of a linear's x,
// comes by bulk copies of the tensor maps, which one thread issues. A convolution's x is gathered with cp.async by all
// threads of the third warpgroup, as gemm_tensor.h does it: bulk copies have a mode for convolutions, but none that reads an
// image as if enlarged. A gathering thread waits for its copies, makes them known to the async proxy, and only then arrives:
// the order that the ISA's memory model states, where an arrival by the copies themselves would leave the fence to readers.
//
// A tile's weight rows come in two boxes of BN/2: with GEGLU those are rows of values and the rows of their gates, and a
// column and its gate are in registers of the same thread.
#include "hopper.h"
#include "epilogue_tensor.h"

struct HopperParams {
  TensorMap x, w; // x of linears: boxes of 128 rows; w: of BN/2 rows; both of 64 columns
  GemmParams gemm;
};

enum { BM = 128, BK = 64, ROW = BK * 2, GROUP = 128, CONSUMERS = 2 * GROUP, THREADS = 3 * GROUP };

// How many rounds of copies a gathering thread has under way. A stage is free when the product after it has begun, so
// that more than STAGES-2 would be waited for by both sides.
enum { BEHIND = 1 };

// Floats from one staged row of sums to the next: 32, and 8 that spread rows over the banks.
enum { WIDE = 40 };

// The shared memory of a block, in bytes. internal/ops/hopper.go has the same numbers.
template <int BN> struct Layout {
  enum { STAGES = BN == 256 ? 4 : BN == 160 ? 5 : 6, A = BM * ROW, TILE = A + BN * ROW };
  enum { STAGING = STAGES * TILE, BARRIERS = STAGING + CONSUMERS / 32 * 16 * WIDE * 4 };
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

// Tiles, in the order in which blocks take them: eight rows of tiles at a time, so that those under way together share rows
// of x and of w.
template <int BN> struct Tiles {
  enum { TOGETHER = 8 };
  int down, across, count, steps;
  int m0, n0; // first row and column of the tile

  DEVICE Tiles(const GemmParams &p) {
    down = (p.m + BM - 1) / BM, across = (p.n + BN - 1) / BN, count = down * across, steps = (p.k + BK - 1) / BK;
  }
  DEVICE void go(int tile) {
    const int band = tile / (TOGETHER * across) * TOGETHER, inside = tile % (TOGETHER * across);
    const int high = down - band < TOGETHER ? down - band : TOGETHER;
    m0 = (band + inside % high) * BM, n0 = inside / high * BN;
  }
};

// Has the tile of the weight brought, and of x if it is a linear's. One thread calls it.
template <int BN, bool conv> DEVICE void fetch(const GemmParams &p, const HopperParams *maps, const Layout<BN> &s, int stage, int m0, int n0, int k0) {
  const int half = p.act == GEGLU ? p.n / 2 : BN / 2, first = p.act == GEGLU ? n0 / 2 : n0;
  const uint32_t a = s.address + stage * s.TILE, b = a + s.A, full = s.full(stage);
  barrier_arrive_expect(full, conv ? BN * ROW : s.TILE);
  if (!conv) copy_box(a, &maps->x, k0, m0, full);
  copy_box(b, &maps->w, k0, first, full);
  copy_box(b + BN / 2 * ROW, &maps->w, k0, first + half, full);
}

template <int BN> DEVICE void produce_linear(const GemmParams &p, const HopperParams *maps, const Layout<BN> &s) {
  Tiles<BN> tiles(p);
  Place<Layout<BN>::STAGES> at;
  for (int tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
    tiles.go(tile);
    for (int step = 0; step < tiles.steps; step++, at.next()) {
      barrier_wait(s.empty(at.stage), at.parity ^ 1);
      fetch<BN, false>(p, maps, s, at.stage, tiles.m0, tiles.n0, step * BK);
    }
  }
}

// Gather copies one chunk of eight rows of a convolution's x, and walks along k. Addresses are worked out where a tap begins.
struct Gather {
  enum { ROWS = 8, APART = GROUP / 8 };
  const char *at[ROWS]; // the first channel of the pixel, where the row's bit of there is set
  unsigned there;
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
    tap(p);
  }

  DEVICE void tap(const GemmParams &p) {
    while (c >= p.channels) {
      c -= p.channels;
      if (++kx == p.kw) kx = 0, ky++;
    }
    there = 0;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const int iy = y[i] + ky, ix = x[i] + kx;
      const bool inside = (ky < p.kh) & ((unsigned)iy < (unsigned)(p.height * p.up)) & ((unsigned)ix < (unsigned)(p.width * p.up));
      const int pixel = inside ? image[i] + (iy >> (p.up - 1)) * p.width + (ix >> (p.up - 1)) : 0;
      at[i] = (const char *)p.x + (int64_t)pixel * p.channels * 2;
      there |= (unsigned)inside << i;
    }
  }

  DEVICE void next(const GemmParams &p) {
    c += BK;
    if (c >= p.channels) tap(p);
  }

  // to is where the chunk of the first row goes; the others are whole groups of eight rows further.
  DEVICE void copy(char *to) const {
#pragma unroll
    for (int i = 0; i < ROWS; i++) copy16(to + i * APART * ROW, at[i] + (there >> i & 1 ? c * 2 : 0), there >> i & 1);
  }
};

template <int BN> DEVICE void produce_conv(const GemmParams &p, const HopperParams *maps, const Layout<BN> &s) {
  Tiles<BN> tiles(p);
  const int thread = threadIdx.x - CONSUMERS, chunk = thread % 8, row0 = thread / 8;
  char *to = s.base + row0 * ROW + ((chunk ^ (row0 & 7)) << 4);
  static_assert(BEHIND <= Layout<BN>::STAGES - 2, "both sides would wait for each other");
  Gather gather;
  Place<Layout<BN>::STAGES> at, landed;
  int behind = 0;
  for (int tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
    tiles.go(tile);
    gather.start(p, tiles.m0 + row0, chunk);
    for (int step = 0; step < tiles.steps; step++, at.next()) {
      barrier_wait(s.empty(at.stage), at.parity ^ 1);
      if (thread == 0) fetch<BN, true>(p, maps, s, at.stage, tiles.m0, tiles.n0, step * BK);
      gather.copy(to + at.stage * s.TILE);
      copy_commit();
      gather.next(p);
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

struct alignas(8) Two { float lo, hi; };

// Puts 32 columns of a warp's sums into shared memory, those from column 32 group on. With a gate, they are 16 columns, each
// followed by its gate, which is in the second half of the sums.
template <int BN, bool gate> DEVICE void stage(float *staged, const float (&sum)[BN / 2], int group) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int j = 0; j < 4; j++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      Two *row = (Two *)(staged + (lane / 4 + half * 8) * WIDE);
      if (gate) {
        const int i = (group * 2 + j / 2) * 4 + half * 2 + j % 2;
        row[j / 2 * 8 + lane % 4 * 2 + j % 2] = Two{sum[i], sum[i + BN / 4]};
      } else {
        const int i = (group * 4 + j) * 4 + half * 2;
        row[j * 4 + lane % 4] = Two{sum[i], sum[i + 1]};
      }
    }
}

// Stores a warp's 16 rows of a tile, 32 columns at a time through shared memory, so that a lane stores 16 bytes and
// neighbours neighbouring ones.
template <class T, int BN> DEVICE void store(const GemmParams &p, float *staged, int row0, int n0, const float (&sum)[BN / 2]) {
#pragma unroll 1
  for (int group = 0; group < BN / 32; group++) {
#pragma unroll
    for (int g = 0; g < BN / 32; g++) { // registers have no index
      if (g != group) continue;
      if (p.act == GEGLU)
        stage<BN, true>(staged, sum, g);
      else
        stage<BN, false>(staged, sum, g);
    }
    warp_sync();
#pragma unroll 1
    for (int e = threadIdx.x & 31; e < 16 * 4; e += 32) {
      const Four *from = (const Four *)(staged + e / 4 * WIDE + e % 4 * 8);
      const Four l = from[0], h = from[1];
      float v[8] = {l.at[0], l.at[1], l.at[2], l.at[3], h.at[0], h.at[1], h.at[2], h.at[3]};
      finish_eight<T>(p, row0 + e / 4, n0 + group * 32 + e % 4 * 8, v);
    }
    warp_sync();
  }
}

template <class T, int BN> DEVICE void consume(const GemmParams &p, const Layout<BN> &s) {
  Tiles<BN> tiles(p);
  const int warp = threadIdx.x / 32, group = threadIdx.x / GROUP;
  const bool speaks = threadIdx.x % 32 == 0; // for its warp, whose products are done when the wait says so
  float *staged = (float *)(s.base + s.STAGING) + warp * 16 * WIDE;
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
    tiles.go(tile);
    store<T, BN>(p, staged, tiles.m0 + warp * 16, tiles.n0, sum);
  }
}

template <class T, int BN, bool conv> DEVICE void gemm(const GemmParams &p, const HopperParams *maps) {
  const Layout<BN> s;
  if (threadIdx.x == 0) {
    for (int i = 0; i < s.STAGES; i++) {
      barrier_init(s.full(i), conv ? 1 + GROUP : 1);
      barrier_init(s.empty(i), CONSUMERS / 32);
    }
    barriers_ready();
  }
  block_sync();
  // 128 sums leave too few of the 168 registers that a thread of so many can have: those who fill leave some of theirs.
  enum { FEW = 88, MANY = 208 };
  static_assert(GROUP * FEW + CONSUMERS * MANY <= THREADS * 168, "more registers are taken than left: the block would wait forever");
  if (threadIdx.x < CONSUMERS) {
    if (BN == 256) registers_take<MANY>();
    consume<T, BN>(p, s);
    return;
  }
  if (BN == 256) registers_leave<FEW>();
  if (conv)
    produce_conv<BN>(p, maps, s);
  else if (threadIdx.x == CONSUMERS)
    produce_linear<BN>(p, maps, s);
}

#define KERNELS(BN)                                                                                                  \
  KERNEL_CONSTANT(hopper_linear_##BN##_f16, HopperParams, THREADS) { gemm<f16, BN, false>(p.gemm, constant); }       \
  KERNEL_CONSTANT(hopper_linear_##BN##_bf16, HopperParams, THREADS) { gemm<bf16, BN, false>(p.gemm, constant); }     \
  KERNEL_CONSTANT(hopper_conv_##BN##_f16, HopperParams, THREADS) { gemm<f16, BN, true>(p.gemm, constant); }          \
  KERNEL_CONSTANT(hopper_conv_##BN##_bf16, HopperParams, THREADS) { gemm<bf16, BN, true>(p.gemm, constant); }
KERNELS(128)
KERNELS(160)
KERNELS(256)
