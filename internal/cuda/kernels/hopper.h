// What kernels for compute capability 9.0 take from the machine beside machine.h. The tests' stand-in driver spells it
// in ../standin/emulate_hopper.h.
//
// Note [Hopper]
//
// What the names below and gemm_hopper.cu rely on. Sources: PTX ISA 8.0, chapters "Asynchronous Warpgroup Level Matrix
// Instructions", "Parallel Synchronization and Communication Instructions: mbarrier", "Data Movement: cp.async.bulk.tensor",
// "Memory Consistency Model: Proxies"; the CUDA Driver API's "Tensor Map Object Management"; descriptors also in CUTLASS'
// include/cute/arch/mma_sm90_desc.hpp.
//
// Tiles. A row of a tile is 64 numbers of 16 bits along k, 128 bytes, and rows follow one another: both operands are
// K-major. With the 128-byte swizzle, the 16-byte chunk c of row r lies where chunk c ^ (r % 8) would: bits 4-6 of a byte's
// address are exclusive-ored with bits 7-9. The pattern repeats every 1,024 bytes, so tiles begin at multiples of 1,024.
//
// Matrix descriptor, 64 bits: 0-13 address / 16; 16-29 leading dimension offset / 16, which swizzled K-major tiles ignore
// and which is written 1; 32-45 stride dimension offset / 16, from one group of eight rows to the next: 1,024 / 16; 49-51
// base offset, 0 for tiles at multiples of 1,024; 62-63 swizzle, 1 for 128 bytes. The swizzle is applied to the address
// that results, so the next 16 numbers along k are 32 bytes further: 2 is added to the first field.
//
// wgmma.m64nNk16 multiplies A [64 16] with B [N 16] transposed; N is a multiple of 8 up to 256. Warp w of the four has rows
// 16w to 16w+15 of the sums; lane l has, in registers 4j to 4j+3, rows l/4, l/4, l/4+8, l/4+8 and columns 8j + l%4*2 + 0, 1,
// 0, 1. All four warps execute the same one. It is asynchronous: nobody touches the sums until wgmma.wait_group says that
// the group is done. wgmma.fence comes before the first and after every other access to the sums' registers; products that
// follow one another with the same shape and sums need none in between.
//
// Proxies. wgmma and bulk copies reach shared memory through the async proxy, all else, cp.async included, through the
// generic one. What a thread wrote through the generic proxy is there for the async proxy after fence.proxy.async by that
// thread; then it tells others. What bulk copies wrote is there for whoever saw the phase of their mbarrier complete.
//
// mbarrier. A phase is complete when the expected arrivals have come and the expected bytes too; the next one then begins.
// Waiting for a parity waits for the phase of that parity, the first being 0; that of the phase before the current one is
// complete, so waiting for parity 1 of a new barrier does not wait. arrive releases and wait acquires, within the block. Other
// threads may use a barrier after its initialisation, a fence and a barrier of the block.
//
// Bulk tensor copies. A tensor map says where rows and columns are, and how large the box is that one copy brings; what is
// outside counts as zeros and in the bytes of the mbarrier. Map: 64-byte aligned, in the constant parameter of the kernel.
// Box: at most 256 rows, and 128 bytes wide with that swizzle. Destination: as tiles are aligned.
//
// Registers. A block has what its threads had at the start; setmaxnreg of a warpgroup gives some back or waits for some, so
// that what is taken must have been left by others.
#pragma once
#include "machine.h"

// Made by the driver, and known to it alone.
struct alignas(64) TensorMap { uint64_t opaque[16]; };

#ifdef EURYALE_HOST
#include "../standin/emulate_hopper.h"
#else

// As KERNEL, for a parameter with tensor maps: constant points to it where they may be used. Its address is asked of the
// assembler, since a compiler that sees it taken reads every field through it, and not as an operand.
#define KERNEL_CONSTANT(name, Params, threads)                                                            \
  DEVICE void run_##name(const Params &p, const Params *constant);                                        \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Params p) {       \
    const Params *constant;                                                                               \
    asm("cvta.param.u64 %0, " #name "_param_0;" : "=l"(constant));                                        \
    run_##name(p, constant);                                                                              \
  }                                                                                                       \
  DEVICE void run_##name(const Params &p, const Params *constant)

DEVICE void barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// After the last barrier_init, by the thread that did it and before a block_sync.
DEVICE void barriers_ready() {
  asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void barrier_arrive(uint32_t barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }

// Arrives, and has the phase wait for so many bytes of bulk copies.
DEVICE void barrier_arrive_expect(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) {
  uint32_t complete;
  do {
    asm volatile("{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(complete)
                 : "r"(barrier), "r"(parity)
                 : "memory");
  } while (!complete);
}

// What this thread wrote to shared memory is there for products.
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Copies the box whose first number is (row, column) of the map's tensor. Its bytes count for the barrier.
DEVICE void copy_box(uint32_t to, const TensorMap *map, int column, int row, uint32_t barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(map),
               "r"(barrier), "r"(column), "r"(row)
               : "memory");
}

DEVICE void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int n> DEVICE void products_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory"); }

// Leaves registers of a warpgroup to the block, or takes them from it; all its threads call it.
template <int n> DEVICE void registers_leave() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n)); }
template <int n> DEVICE void registers_take() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n)); }

// Keeps the compiler from moving uses of the sums to before the wait.
template <int n> DEVICE void products_settle(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// product(d, a, b, T): d += a b^T, for descriptors of a [64 16] and b [N 16]. d is N/2 registers of each of 128 threads.
// The numbers of asm's operands are spelled out, 16 to a line.
#define D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define D16(i) D8(i), D8(i + 8)
#define D64 D16(0), D16(16), D16(32), D16(48)
#define D80 D64, D16(64)
#define D128 D80, D16(80), D16(96), D16(112)
#define N64                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define N80 N64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define N128                                                                               \
  N80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define PRODUCT(n, registers, T, type, a_, b_)                                                                                \
  DEVICE void product(float (&d)[registers], uint64_t a, uint64_t b, T) {                                                     \
    asm volatile("{\n\t.reg .pred keep;\n\tsetp.eq.u32 keep, 0, 0;\n\twgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type \
                 "." type " {" N##registers "}, " a_ ", " b_ ", keep, 1, 1, 0, 0;\n\t}"                                       \
                 : D##registers                                                                                               \
                 : "l"(a), "l"(b)                                                                                             \
                 : "memory");                                                                                                 \
  }
PRODUCT(128, 64, f16, "f16", "%64", "%65")
PRODUCT(128, 64, bf16, "bf16", "%64", "%65")
PRODUCT(160, 80, f16, "f16", "%80", "%81")
PRODUCT(160, 80, bf16, "bf16", "%80", "%81")
PRODUCT(256, 128, f16, "f16", "%128", "%129")
PRODUCT(256, 128, bf16, "bf16", "%128", "%129")
#undef PRODUCT
#undef D8
#undef D16
#undef D64
#undef D80
#undef D128
#undef N64
#undef N80
#undef N128

#endif // CUDA

// The descriptor of a tile at a multiple of 1,024, and of what is 32 bytes further in its rows: + 2.
DEVICE uint64_t tile_descriptor(uint32_t address) {
  return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
