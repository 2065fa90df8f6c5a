// What kernels for compute capability 9.0 take from the machine, for the host: see ../kernels/hopper.h, which has the
// meaning of each name. async.cc does the work.
#pragma once

#include "emulate.h"

namespace emulate {

uint32_t shared_number(const void *p);
void init(uint32_t barrier, int arrivals);
void init_fence();
void arrive(uint32_t barrier, int bytes);
void wait(uint32_t barrier, uint32_t parity);
void proxy_fence();
void bring_box(uint32_t to, const void *map, int column, int row, uint32_t barrier);
void product_fence();
void product_issue(float *d, int registers, uint64_t a, uint64_t b, bool brain);
void product_commit();
void product_wait(unsigned newest_left);

} // namespace emulate

#define KERNEL_CONSTANT(name, Params, threads)                        \
  static void run_##name(const Params &p, const Params *constant);    \
  KERNEL(name, Params, threads) { run_##name(p, &p); }                \
  static void run_##name(const Params &p, const Params *constant)

DEVICE uint32_t shared_address(const void *p) { return emulate::shared_number(p); }
DEVICE void barrier_init(uint32_t barrier, int arrivals) { emulate::init(barrier, arrivals); }
DEVICE void barriers_ready() { emulate::init_fence(); }
DEVICE void barrier_arrive(uint32_t barrier) { emulate::arrive(barrier, 0); }
DEVICE void barrier_arrive_expect(uint32_t barrier, int bytes) { emulate::arrive(barrier, bytes); }
DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) { emulate::wait(barrier, parity); }
DEVICE void fence_proxy_async() { emulate::proxy_fence(); }
DEVICE void copy_box(uint32_t to, const void *map, int column, int row, uint32_t barrier) { emulate::bring_box(to, map, column, row, barrier); }
DEVICE void products_fence() { emulate::product_fence(); }
DEVICE void products_commit() { emulate::product_commit(); }
template <int n> DEVICE void products_wait() { emulate::product_wait(n); }
template <int n> DEVICE void registers_leave() {}
template <int n> DEVICE void registers_take() {}
template <int n> DEVICE void products_settle(float (&)[n]) {}
template <int n> DEVICE void product(float (&d)[n], uint64_t a, uint64_t b, f16) { emulate::product_issue(d, n, a, b, false); }
template <int n> DEVICE void product(float (&d)[n], uint64_t a, uint64_t b, bf16) { emulate::product_issue(d, n, a, b, true); }
