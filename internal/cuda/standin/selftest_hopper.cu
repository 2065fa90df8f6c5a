// A small product as gemm_hopper.cu does them, right and with the mistakes that the emulation must see.
#include "../kernels/hopper.h"

enum Mistake {
  NONE,
  NO_FULL_WAIT,      // multiplies without waiting for the tile
  ONE_WARP_HASTY,    // one warp does
  FEW_BYTES,         // expects a box too few
  MANY_BYTES,        // expects a byte too many
  NO_EMPTY_WAIT,     // refills without waiting for the products
  EARLY_RELEASE,     // tells that a tile is free before the products are done
  LATE_ARRIVAL,      // one warp never tells
  NO_PRODUCTS_WAIT,  // stores sums of products under way
  NO_PRODUCTS_FENCE,
  NO_PROXY_FENCE,    // gathers and arrives without making it known to the async proxy
  NO_COPY_WAIT,      // gathers and arrives before the bytes are there
  NO_INIT_FENCE,
  NO_INIT_SYNC,
  WRONG_PARITY,
  NO_SWIZZLE,        // in the descriptor
  CROOKED_TILE,      // 512 bytes off
  OTHER_TILES,       // one warp of the four multiplies another tile
  LEFT_ALONE         // ends while a copy is under way
};

struct HopperSelfTestParams {
  TensorMap a, b; // a [64 k], b [128 k]: boxes of 64 rows
  float *out;     // [64 128]
  const uint16_t *gathered; // a, if it comes with cp.async instead
  int32_t steps, mistake;
};

enum { STAGES = 2, TILE_A = 64 * 128, TILE = TILE_A + 128 * 128, BARRIERS = STAGES * TILE };

// 128 threads multiply; 128 fill.
DEVICE void fill(const HopperSelfTestParams &p, const HopperSelfTestParams *maps, char *base, uint32_t address, uint32_t full, uint32_t empty) {
  const int thread = threadIdx.x - 128, chunk = thread % 8, row0 = thread / 8;
  for (int step = 0; step < p.steps; step++) {
    const int stage = step % STAGES;
    const uint32_t tile = address + stage * TILE, parity = step / STAGES & 1;
    if (p.mistake != NO_EMPTY_WAIT) barrier_wait(empty + stage * 8, parity ^ 1);
    if (thread == 0) {
      int bytes = p.gathered ? 128 * 128 : TILE;
      if (p.mistake == FEW_BYTES) bytes -= 64 * 128;
      if (p.mistake == MANY_BYTES) bytes++;
      barrier_arrive_expect(full + stage * 8, bytes);
      if (!p.gathered) copy_box(tile, &maps->a, step * 64, 0, full + stage * 8);
      for (int half = 0; half < 2; half++) copy_box(tile + TILE_A + half * 8192, &maps->b, step * 64, half * 64, full + stage * 8);
    }
    if (!p.gathered) continue;
    for (int row = row0; row < 64; row += 16)
      copy16(base + stage * TILE + row * 128 + ((chunk ^ (row & 7)) << 4), p.gathered + (row * p.steps + step) * 64 + chunk * 8, true);
    copy_commit();
    if (p.mistake != NO_COPY_WAIT) copy_wait<0>();
    if (p.mistake != NO_PROXY_FENCE) fence_proxy_async();
    barrier_arrive(full + stage * 8);
    if (p.mistake == NO_COPY_WAIT) copy_wait<0>();
  }
  if (p.mistake == LEFT_ALONE && thread == 0) {
    barrier_wait(empty, 0);
    barrier_arrive_expect(full, 64 * 128);
    copy_box(address, &maps->a, 0, 0, full);
  }
}

DEVICE uint64_t described(const HopperSelfTestParams &p, uint32_t address) {
  uint64_t d = tile_descriptor(address);
  return p.mistake == NO_SWIZZLE ? d & ~((uint64_t)3 << 62) : d;
}

DEVICE void multiply(const HopperSelfTestParams &p, uint32_t address, uint32_t full, uint32_t empty) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sum[64] = {};
  for (int step = 0; step < p.steps; step++) {
    const int stage = step % STAGES;
    const uint32_t tile = address + stage * TILE, parity = step / STAGES & 1;
    bool hasty = p.mistake == NO_FULL_WAIT || (p.mistake == ONE_WARP_HASTY && warp == 2);
    if (!hasty) barrier_wait(full + stage * 8, p.mistake == WRONG_PARITY ? parity ^ 1 : parity);
    if (p.mistake != NO_PRODUCTS_FENCE || step == 0) products_fence();
    const uint64_t a = described(p, tile + (p.mistake == OTHER_TILES && warp == 3 ? 1024 : 0)), b = described(p, tile + TILE_A);
    for (int k = 0; k < 4; k++) product(sum, a + 2 * k, b + 2 * k, f16());
    products_commit();
    if (p.mistake == EARLY_RELEASE && lane == 0) barrier_arrive(empty + stage * 8);
    if (p.mistake != NO_PRODUCTS_WAIT) products_wait<0>();
    if (p.mistake != EARLY_RELEASE && lane == 0 && !(p.mistake == LATE_ARRIVAL && warp == 1)) barrier_arrive(empty + stage * 8);
  }
  for (int i = 0; i < 64; i++) p.out[(warp * 16 + lane / 4 + i / 2 % 2 * 8) * 128 + i / 4 * 8 + lane % 4 * 2 + i % 2] = sum[i];
  if (p.mistake == NO_PRODUCTS_WAIT) products_wait<0>();
}

KERNEL_CONSTANT(selftest_hopper, HopperSelfTestParams, 256) {
  char *base = shared_memory();
  uint32_t address = shared_address(base), aligned = (address + 1023) & ~1023u;
  if (p.mistake == CROOKED_TILE) aligned += 512;
  base += aligned - address;
  const uint32_t full = aligned + BARRIERS, empty = full + STAGES * 8;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      barrier_init(full + i * 8, p.gathered ? 1 + 128 : 1);
      barrier_init(empty + i * 8, 4);
    }
    if (p.mistake != NO_INIT_FENCE) barriers_ready();
  }
  if (p.mistake != NO_INIT_SYNC) block_sync();
  if (threadIdx.x < 128)
    multiply(p, aligned, full, empty);
  else if (p.gathered || threadIdx.x == 128)
    fill(p, constant, base, aligned, full, empty);
}
