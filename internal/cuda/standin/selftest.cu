// Kernels of the self-test: one that is right, and those with the mistakes that the emulation must see.
#include "machine.h"

struct SelfTestParams {
  uint32_t *out;
  const uint32_t *in;
  uint32_t n;
};

// out += in
KERNEL(selftest_accumulate, SelfTestParams, 128) {
  for (uint32_t i = blockIdx.x * 128 + threadIdx.x; i < p.n; i += gridDim.x * 128) p.out[i] += p.in[i];
}

// Goes one element too far.
KERNEL(selftest_beyond, SelfTestParams, 128) {
  for (uint32_t i = threadIdx.x; i <= p.n; i += 128) p.out[i] = i;
}

// Needs a block_sync between the two lines.
KERNEL(selftest_race, SelfTestParams, 128) {
  uint32_t *s = (uint32_t *)shared_memory();
  s[threadIdx.x] = threadIdx.x;
  p.out[threadIdx.x] = s[127 - threadIdx.x];
}

// Is ordered within warps by warp_sync, and needs no more.
KERNEL(selftest_warps, SelfTestParams, 128) {
  uint32_t *s = (uint32_t *)shared_memory();
  s[threadIdx.x] = threadIdx.x;
  warp_sync();
  p.out[threadIdx.x] = s[threadIdx.x ^ 31];
}

KERNEL(selftest_diverge, SelfTestParams, 128) {
  if (threadIdx.x < 100) block_sync();
  p.out[threadIdx.x] = 1;
}

KERNEL(selftest_meet, SelfTestParams, 128) {
  float v = 1;
  if (threadIdx.x % 2)
    warp_sync();
  else
    v = shuffle_xor(v, 2);
  p.out[threadIdx.x] = (uint32_t)v;
}

// Reads what a copy brings without waiting for it.
KERNEL(selftest_hasty, SelfTestParams, 128) {
  char *s = shared_memory() + 16 * threadIdx.x;
  copy16(s, (const char *)p.in + 16 * threadIdx.x, true);
  copy_commit();
  p.out[threadIdx.x] = *(uint32_t *)s;
}

// The same with the wait.
KERNEL(selftest_patient, SelfTestParams, 128) {
  char *s = shared_memory() + 16 * threadIdx.x;
  copy16(s, (const char *)p.in + 16 * threadIdx.x, threadIdx.x < 64);
  copy_commit();
  copy_wait<0>();
  block_sync();
  p.out[threadIdx.x] = *(uint32_t *)(shared_memory() + 16 * (127 - threadIdx.x));
}

KERNEL(selftest_overflow, SelfTestParams, 128) { ((uint32_t *)shared_memory())[threadIdx.x + p.n] = 1; }

KERNEL(selftest_crooked, SelfTestParams, 128) { *(uint32_t *)((char *)p.out + 2) = threadIdx.x; }

KERNEL(selftest_foreign, SelfTestParams, 128) { p.out[threadIdx.x] = *(volatile uint32_t *)(uintptr_t)p.n; }

// d = a b for one tile of 16 8 16, with a and b in memory: a [16 16] and b [16 8] of in, d [16 8] floats of out.
template <class T> DEVICE void product(const SelfTestParams &p) {
  char *s = shared_memory();
  for (int i = threadIdx.x; i < 384; i += 32) ((uint16_t *)s)[i] = ((const uint16_t *)p.in)[i];
  warp_sync();
  int lane = threadIdx.x;
  uint32_t a[4], b[4];
  load_matrices(a, s + ((lane % 8 + lane / 8 % 2 * 8) * 16 + lane / 16 * 8) * 2);
  load_matrices_trans(b, s + 512 + lane % 16 * 16);
  float d[4] = {0, 0, 0, 0};
  multiply_add(d, a, b[0], b[1], T{});
  for (int i = 0; i < 4; i++) ((float *)p.out)[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
KERNEL(selftest_product_f16, SelfTestParams, 32) { product<f16>(p); }
KERNEL(selftest_product_bf16, SelfTestParams, 32) { product<bf16>(p); }
