// Lives of memory: too short, too long, or somebody else's.
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "selftest.h"

void memory() {
  finds("memory is freed while work uses it", "cuMemFree without waiting for", [] {
    accumulate(other, device, 1024, compute);
    MUST(cuMemFree(device));
  });
  finds("memory is freed after its work", "", [] {
    accumulate(other, device, 1024, compute);
    MUST(cuStreamSynchronize(compute));
    MUST(cuMemFree(device));
  });
  finds("a kernel uses freed memory", "no memory is", [] {
    MUST(cuMemFree(device));
    accumulate(other, device, 1024, compute);
    check("who waits is told", cuStreamSynchronize(compute) == CUDA_ERROR_ILLEGAL_ADDRESS);
  });
  finds("a copy uses freed memory", "memory that was freed", [] {
    MUST(cuMemFree(device));
    check("it is refused", cuMemcpyHtoDAsync(device, host, 4096, copy) == CUDA_ERROR_INVALID_VALUE);
  });
  finds("a copy reaches beyond", "4 bytes beyond an allocation", [] { cuMemcpyHtoDAsync(device + 4, host, 4096, copy); });
  finds("a fill reaches beyond", "beyond an allocation", [] { cuMemsetD8Async(device, 0, 4097, copy); });
  finds("a kernel writes one element beyond", "beyond an allocation", [] {
    CUdeviceptr small;
    MUST(cuMemAlloc(&small, 400));
    launch(function("beyond"), Params{small, 0, 128}, compute);
  });
  finds("a kernel writes one element beyond a full page", "no memory is", [] { launch(function("beyond"), Params{device, 0, 1024}, compute); });
  finds("a kernel reads what nobody wrote", "which nobody wrote", [] {
    CUdeviceptr fresh;
    MUST(cuMemAlloc(&fresh, 4096));
    accumulate(other, fresh, 1024, compute);
  });
  finds("memory is freed twice", "free already", [] {
    MUST(cuMemFree(device));
    cuMemFree(device);
  });
  finds("a part is used after its end", "which is free", [] {
    euryaleStandinAnnotate(device, 1024, EURYALE_FREE, compute);
    accumulate(other, device, 256, compute);
  });
  finds("a part is used before its end", "", [] {
    accumulate(other, device, 256, compute);
    euryaleStandinAnnotate(device, 1024, EURYALE_FREE, compute);
    accumulate(other, device + 1024, 256, compute);
  });
  finds("a part gets a new life while it is read", "without being ordered after", [] {
    accumulate(other, device, 256, compute);
    euryaleStandinAnnotate(device, 1024, EURYALE_FRESH, copy);
  });
  finds("a part is read in its new life before it is written", "which nobody wrote", [] {
    euryaleStandinAnnotate(device, 1024, EURYALE_FRESH, compute);
    accumulate(other, device, 256, compute);
  });

  finds("an asynchronous copy from pageable memory", "pageable", [] {
    std::vector<char> pageable(4096);
    MUST(cuMemcpyHtoDAsync(device, pageable.data(), 4096, copy));
  });
  finds("an asynchronous copy to pageable memory", "pageable", [] {
    std::vector<char> pageable(4096);
    MUST(cuMemcpyDtoHAsync(pageable.data(), device, 4096, copy));
  });
  finds("a copy that is page-locked in part", "pageable", [] {
    char *m = (char *)aligned_alloc(4096, 8192);
    MUST(cuMemHostRegister(m, 4096, 0));
    cuMemcpyHtoDAsync(device, m + 2048, 4096, copy);
    MUST(cuStreamSynchronize(copy));
    MUST(cuMemHostUnregister(m));
    free(m);
  });
  finds("the host writes a source in flight", "the host writes", [] {
    MUST(cuMemcpyHtoDAsync(device, host, 4096, copy));
    host[5] = 1;
  });
  finds("the host reads a source in flight", "", [] {
    MUST(cuMemcpyHtoDAsync(device, host, 4096, copy));
    volatile unsigned v = host[5];
    (void)v;
  });
  finds("the host reads a result in flight", "the host reads", [] {
    MUST(cuMemcpyDtoHAsync(host, device, 4096, copy));
    volatile unsigned v = host[5];
    (void)v;
  });
  finds("the host writes beside a source in flight", "", [] {
    MUST(cuMemcpyHtoDAsync(device, host, 2048, copy));
    host[600] = 1;
  });
  finds("the host writes a source that has arrived", "", [] {
    MUST(cuMemcpyHtoDAsync(device, host, 4096, copy));
    MUST(cuStreamSynchronize(copy));
    host[5] = 1;
  });
  finds("the host reads a result that is there", "", [] {
    MUST(cuMemsetD32Async(device, 77, 1024, copy));
    MUST(cuMemcpyDtoHAsync(host, device, 4096, copy));
    MUST(cuStreamSynchronize(copy));
    check("and right", host[5] == 77);
  });
  finds("page-locked memory is freed in flight", "cuMemFreeHost without waiting for", [] {
    MUST(cuMemcpyHtoDAsync(device, host, 4096, copy));
    MUST(cuMemFreeHost(host));
  });
}
