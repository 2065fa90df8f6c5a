// What kernels take from the machine they run on. Here it is spelled for CUDA; the tests' stand-in driver compiles
// the same kernels for the host with EURYALE_HOST defined, and spells it in ../standin/emulate.h.
#pragma once

#ifdef EURYALE_HOST
#include "../standin/emulate.h"
#else

typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef int int32_t;
typedef long long int64_t;

#define DEVICE __device__ __forceinline__

// KERNEL(name, Params, threads) { ... p.field ... } defines a kernel of one-dimensional blocks of that many threads.
// Every kernel has one parameter, a struct, so that one launch function serves them all. That one block must fit on a
// processor keeps compilers from saving registers for more of them by spilling.
#define KERNEL(name, Params, threads) extern "C" __global__ void __launch_bounds__(threads, 1) name(const Params p)

// The dynamic shared memory of the block, aligned to 128 bytes.
DEVICE char *shared_memory() {
  extern __shared__ __align__(128) char euryale_shared[];
  return euryale_shared;
}

DEVICE void block_sync() { __syncthreads(); }
DEVICE void warp_sync() { __syncwarp(); }

// The value of v in the lane whose number differs in the bits of mask. All lanes of a warp take part.
DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// Half-precision numbers are stored, never computed with: arithmetic is float.
struct f16 { uint16_t bits; };
struct bf16 { uint16_t bits; };

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
DEVICE float to_float(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }

// Rounds to nearest, ties to even.
DEVICE void from_float(float x, float &y) { y = x; }
DEVICE void from_float(float x, f16 &y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
DEVICE void from_float(float x, bf16 &y) {
  uint32_t u = __float_as_uint(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) // not a number: stays one
    y.bits = (uint16_t)((u >> 16) | 0x40);
  else
    y.bits = (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

DEVICE float minus_infinity() { return __uint_as_float(0xff800000u); }

// Tensor cores and asynchronous copies: sm_80 and up.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

// Two numbers as one register, lo in the low half.
DEVICE uint32_t pack2(float lo, float hi, f16) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
DEVICE uint32_t pack2(float lo, float hi, bf16) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

// Copies 16 bytes from global to shared memory, or writes 16 zeros there. Both addresses are multiples of 16. The
// bytes are there, for this thread, once copy_wait says so, and for the block after block_sync.
DEVICE void copy16(void *to, const void *from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

// Closes a group of copies. copy_wait<n> waits until at most the n latest groups are under way.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory"); }

// Loads four 8x8 matrices of 16-bit numbers; lanes 8i to 8i+7 give the addresses of the rows of matrix i. Lane l gets
// of each matrix the numbers 2(l%4) and 2(l%4)+1 of row l/4; with _trans, of column l/4.
DEVICE void load_matrices(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void load_matrices_trans(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d += a b, with a [16 16], b [16 8], d [16 8] spread over the lanes of a warp as PTX's mma.m16n8k16 has them.
DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, f16) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bf16) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same with float numbers, rounded to 11 bits (tf32), and half as many columns of a: PTX's mma.m16n8k8.
DEVICE uint32_t to_tf32(uint32_t bits) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits)));
  return r;
}
DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Makes loaded matrices fit for multiply_add.
template <class T> DEVICE void prepare(uint32_t (&)[4], T) {}
DEVICE void prepare(uint32_t (&r)[4], float) {
#pragma unroll
  for (int i = 0; i < 4; i++) r[i] = to_tf32(r[i]);
}

#endif // sm_80
#endif // CUDA
