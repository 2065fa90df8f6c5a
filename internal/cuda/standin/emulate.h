// What kernels take from the machine, for the host: see ../kernels/machine.h, which has the meaning of each name.
//
// A block runs as fibers on one thread of the host, one per thread of the block. What threads do together (barriers,
// shuffles, matrices) are meeting points of the fibers; a block whose fibers wait in different places is reported.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define DEVICE inline

namespace emulate {

struct Index { unsigned x, y, z; };
extern Index thread_index, block_index, block_size, grid_size;

typedef void (*Body)(const void *params);

// A kernel enrols itself when the library is loaded.
struct Enrol { Enrol(const char *name, size_t param_bytes, unsigned threads, Body body); };

void copy_async(void *to, const void *from, bool valid);
void copy_close();
void copy_finish(int newest_left);
void matrices(uint32_t (&r)[4], const void *row, bool transposed);
void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bool brain);
void multiply_floats(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
uint32_t to_tf32(uint32_t bits);

// Rounds to the nearest number with ties to even, exactly as the device does.
uint16_t half_of(float x);
float of_half(uint16_t bits);

} // namespace emulate

#define threadIdx emulate::thread_index
#define blockIdx emulate::block_index
#define blockDim emulate::block_size
#define gridDim emulate::grid_size

#define KERNEL(name, Params, threads)                                                                      \
  static void name(const Params &p);                                                                       \
  static const emulate::Enrol enrol_##name(#name, sizeof(Params), threads, [](const void *p) { name(*(const Params *)p); }); \
  static void name(const Params &p)

char *shared_memory();
void block_sync();
void warp_sync();
float shuffle_xor(float v, int mask);

struct f16 { uint16_t bits; };
struct bf16 { uint16_t bits; };

DEVICE float float_of_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
DEVICE uint32_t float_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

DEVICE float minus_infinity() { return -INFINITY; }

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(f16 x) { return emulate::of_half(x.bits); }
DEVICE float to_float(bf16 x) { return float_of_bits((uint32_t)x.bits << 16); }

DEVICE void from_float(float x, float &y) { y = x; }
DEVICE void from_float(float x, f16 &y) { y.bits = emulate::half_of(x); }
DEVICE void from_float(float x, bf16 &y) {
  uint32_t u = float_bits(x);
  if ((u & 0x7fffffffu) > 0x7f800000u)
    y.bits = (uint16_t)((u >> 16) | 0x40);
  else
    y.bits = (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

// The device's approximation is within 2 ulp and takes denormals for zero.
DEVICE float exp2_approx(float x) {
  float y = exp2f(x);
  return std::fabs(y) < 1.17549435e-38f ? 0 : y;
}

// Functions of CUDA's mathematics that the host's library lacks.
DEVICE float rsqrtf(float x) { return 1 / sqrtf(x); }

DEVICE uint32_t pack2(float lo, float hi, f16) { return emulate::half_of(lo) | (uint32_t)emulate::half_of(hi) << 16; }
DEVICE uint32_t pack2(float lo, float hi, bf16) {
  bf16 l, h;
  from_float(lo, l);
  from_float(hi, h);
  return l.bits | (uint32_t)h.bits << 16;
}

DEVICE void copy16(void *to, const void *from, bool valid) { emulate::copy_async(to, from, valid); }
DEVICE void copy_commit() { emulate::copy_close(); }
template <int n> DEVICE void copy_wait() { emulate::copy_finish(n); }

DEVICE void load_matrices(uint32_t (&r)[4], const void *row) { emulate::matrices(r, row, false); }
DEVICE void load_matrices_trans(uint32_t (&r)[4], const void *row) { emulate::matrices(r, row, true); }
DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, f16) { emulate::multiply(d, a, b0, b1, false); }
DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float) { emulate::multiply_floats(d, a, b0, b1); }
template <class T> DEVICE void prepare(uint32_t (&)[4], T) {}
DEVICE void prepare(uint32_t (&r)[4], float) {
  for (uint32_t &v : r) v = emulate::to_tf32(v);
}
DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bf16) { emulate::multiply(d, a, b0, b1, true); }
