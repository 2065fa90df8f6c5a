// Memory of the device, page-locked memory, copies and fills.
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "contract.h"

void memory(const Device &) {
  CUdeviceptr p = 0, q = 0, base = 0;
  size_t free0 = 0, free1 = 0, total = 0, size = 0;
  expect("an allocation of nothing", cuMemAlloc(&p, 0), {CUDA_ERROR_INVALID_VALUE});
  expect("an allocation without a place", cuMemAlloc(nullptr, 16), {CUDA_ERROR_INVALID_VALUE});
  expect("an allocation beyond all memory", cuMemAlloc(&p, (size_t)1 << 50), {CUDA_ERROR_OUT_OF_MEMORY});
  expect("a small allocation after that", cuMemAlloc(&p, 1), {CUDA_SUCCESS});
  check("is aligned to 256 bytes", p % 256 == 0);
  expect("cuMemFree", cuMemFree(p), {CUDA_SUCCESS});
  expect("cuMemFree of what is free", cuMemFree(p), {CUDA_ERROR_INVALID_VALUE});
  expect("cuMemFree of no address", cuMemFree(0x10), {CUDA_ERROR_INVALID_VALUE});
  expect("cuMemGetInfo", cuMemGetInfo(&free0, &total), {CUDA_SUCCESS});
  check("no more is free than there is", free0 <= total && free0 > 0);
  MUST(cuMemAlloc(&p, 64 << 20));
  MUST(cuMemGetInfo(&free1, &total));
  check("an allocation is missing from what is free", free1 + (64 << 20) <= free0);
  MUST(cuMemAlloc(&q, 1000));
  check("two allocations do not overlap", q + 1000 <= p || p + (64 << 20) <= q);
  expect("the allocation of an address", cuMemGetAddressRange(&base, &size, q + 100), {CUDA_SUCCESS});
  check("begins where it was given", base == q);
  check("and has room for what was asked for", size >= 1000);
  expect("the allocation of no address", cuMemGetAddressRange(&base, &size, 0x10), {CUDA_ERROR_NOT_FOUND, CUDA_ERROR_INVALID_VALUE});
  unsigned type = 0;
  expect("the type of an address of the device", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, q), {CUDA_SUCCESS});
  check("is the device's", type == CU_MEMORYTYPE_DEVICE);
  int local = 0;
  expect("the type of ordinary memory", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)&local), {CUDA_ERROR_INVALID_VALUE});
  MUST(cuMemFree(p));
  MUST(cuMemFree(q));

  void *h = nullptr;
  unsigned flags = 99;
  expect("page-locked memory of no size", cuMemHostAlloc(&h, 0, 0), {CUDA_ERROR_INVALID_VALUE});
  expect("page-locked memory", cuMemHostAlloc(&h, 100000, CU_MEMHOSTALLOC_PORTABLE), {CUDA_SUCCESS});
  memset(h, 7, 100000);
  expect("its type", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)h), {CUDA_SUCCESS});
  check("is the host's", type == CU_MEMORYTYPE_HOST);
  expect("its flags", cuMemHostGetFlags(&flags, h), {CUDA_SUCCESS});
  check("are those it was asked for", flags & CU_MEMHOSTALLOC_PORTABLE);
  expect("cuMemFreeHost", cuMemFreeHost(h), {CUDA_SUCCESS});

  void *mine = aligned_alloc(4096, 65536);
  memset(mine, 1, 65536);
  expect("memory of ours is locked", cuMemHostRegister(mine, 65536, 0), {CUDA_SUCCESS});
  expect("it is not locked twice", cuMemHostRegister(mine, 65536, 0), {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED});
  expect("it is unlocked", cuMemHostUnregister(mine), {CUDA_SUCCESS});
  expect("it is not unlocked twice", cuMemHostUnregister(mine), {CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED});
  expect("nothing is no range to lock", cuMemHostRegister(mine, 0, 0), {CUDA_ERROR_INVALID_VALUE});
  free(mine);
}

static bool all(const unsigned char *p, size_t n, unsigned char v) {
  for (size_t i = 0; i < n; i++)
    if (p[i] != v) return false;
  return true;
}

void copies(const Device &d) {
  const size_t n = 10000;
  CUdeviceptr a, b;
  MUST(cuMemAlloc(&a, n));
  MUST(cuMemAlloc(&b, n));
  std::vector<unsigned char> in(n), out(n, 0);
  for (size_t i = 0; i < n; i++) in[i] = (unsigned char)(i * 7);
  expect("a copy to the device", cuMemcpyHtoD(a, in.data(), n), {CUDA_SUCCESS});
  expect("a copy within the device", cuMemcpyDtoD(b, a, n), {CUDA_SUCCESS});
  expect("a copy from the device", cuMemcpyDtoH(out.data(), b, n), {CUDA_SUCCESS});
  check("brings back what was sent", in == out);
  expect("a copy of nothing", cuMemcpyHtoD(a, in.data(), 0), {CUDA_SUCCESS});
  expect("a copy to no address", cuMemcpyHtoD(0, in.data(), 16), {CUDA_ERROR_INVALID_VALUE});
  expect("a copy from no address of the host", cuMemcpyHtoD(a, nullptr, 16), {CUDA_ERROR_INVALID_VALUE});
  MUST(cuMemcpyHtoD(a + 16, in.data(), 16));
  MUST(cuMemcpyDtoH(out.data(), a + 16, 16));
  check("addresses within an allocation are good", !memcmp(in.data(), out.data(), 16));
  expect("cuMemcpy knows the sides by their addresses", cuMemcpy(a, (CUdeviceptr)in.data(), n), {CUDA_SUCCESS});
  expect("and those of a copy back", cuMemcpy((CUdeviceptr)out.data(), a, n), {CUDA_SUCCESS});
  check("and brings the bytes", in == out);

  expect("a fill with bytes", cuMemsetD8(a, 0xAB, n), {CUDA_SUCCESS});
  MUST(cuMemcpyDtoH(out.data(), a, n));
  check("fills", all(out.data(), n, 0xAB));
  expect("a fill with 32 bits", cuMemsetD32(a + 4, 0x01010101, 100), {CUDA_SUCCESS});
  MUST(cuMemcpyDtoH(out.data(), a, n));
  check("fills no more and no less", all(out.data(), 4, 0xAB) && all(out.data() + 4, 400, 1) && all(out.data() + 404, n - 404, 0xAB));
  expect("a fill with 16 bits", cuMemsetD16(a, 0x0202, 50), {CUDA_SUCCESS});
  expect("a fill with 32 bits at an odd address", cuMemsetD32(a + 1, 0, 4), {CUDA_ERROR_INVALID_VALUE});

  // In one stream work runs in order, and page-locked memory is written before the stream is done.
  CUstream s;
  void *h;
  MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  MUST(cuMemHostAlloc(&h, 2 * n, 0));
  memset(h, 5, n);
  MUST(cuCtxSynchronize());
  MUST(spin(d, s));
  expect("an asynchronous copy to the device", cuMemcpyHtoDAsync(a, h, n, s), {CUDA_SUCCESS});
  expect("an asynchronous copy within the device", cuMemcpyDtoDAsync(b, a, n, s), {CUDA_SUCCESS});
  expect("an asynchronous fill", cuMemsetD8Async(a, 6, n, s), {CUDA_SUCCESS});
  expect("an asynchronous copy from the device", cuMemcpyDtoHAsync((char *)h + n, b, n, s), {CUDA_SUCCESS});
  expect("none of them has been waited for", cuStreamQuery(s), {CUDA_ERROR_NOT_READY});
  MUST(cuStreamSynchronize(s));
  check("all ran in order", all((unsigned char *)h + n, n, 5));
  MUST(cuMemcpyDtoH(out.data(), a, n));
  check("the fill came last", all(out.data(), n, 6));

  // A free waits for work that uses the memory.
  CUdeviceptr c;
  MUST(cuMemAlloc(&c, n));
  MUST(spin(d, s));
  MUST(cuMemsetD8Async(c, 1, n, s));
  expect("memory that work uses can be freed", cuMemFree(c), {CUDA_SUCCESS});
  expect("and nothing comes of it", cuStreamSynchronize(s), {CUDA_SUCCESS});
  MUST(cuMemFreeHost(h));
  MUST(cuStreamDestroy(s));
  MUST(cuMemFree(a));
  MUST(cuMemFree(b));
}
