// Contexts, handles, errors, leaks, and the faults that tests inject.
#include <thread>

#include "selftest.h"

static void release_all() {
  MUST(cuStreamDestroy(copy));
  MUST(cuStreamDestroy(compute));
  MUST(cuEventDestroy(event));
  MUST(cuMemFree(device));
  MUST(cuMemFree(other));
  MUST(cuMemFreeHost(host));
}

void handles() {
  finds("a context ends with memory and streams", "leak: the context ends with 4096 bytes of the device", [] { cuDevicePrimaryCtxRelease(0); });
  finds("a context ends with work that has not run", "has not run", [] {
    MUST(cuMemsetD8Async(device, 0, 4096, compute));
    cuDevicePrimaryCtxRelease(0);
  });
  finds("a context ends with a module alone", "leak: the context ends with 1 modules", [] {
    release_all();
    check("one object is alive", euryaleStandinLive() == 1);
    MUST(cuDevicePrimaryCtxRelease(0));
  });
  finds("a stream is destroyed twice", "which was destroyed", [] {
    MUST(cuStreamDestroy(copy));
    check("that is an invalid handle", cuStreamDestroy(copy) == CUDA_ERROR_INVALID_HANDLE);
  });
  finds("an event is destroyed twice", "event that was destroyed", [] {
    MUST(cuEventDestroy(event));
    cuEventDestroy(event);
  });
  finds("a destroyed stream is used", "which was destroyed", [] {
    MUST(cuStreamDestroy(copy));
    cuMemcpyHtoDAsync(device, host, 16, copy);
  });
  finds("a destroyed event is waited for", "event that was destroyed", [] {
    MUST(cuEventDestroy(event));
    cuStreamWaitEvent(copy, event, 0);
  });
  finds("a thread without a context", "", [] {
    std::thread([] { check("is told so", cuStreamSynchronize(copy) == CUDA_ERROR_INVALID_CONTEXT); }).join();
  });
  finds("the host waits for work that can never run", "which can never run", [] {
    euryaleStandinStall(copy);
    MUST(cuMemsetD8Async(device, 0, 4096, copy));
    MUST(cuEventRecord(event, copy));
    MUST(cuStreamWaitEvent(compute, event, 0));
    MUST(cuMemsetD8Async(other, 0, 4096, compute));
    check("asking does not end", cuStreamQuery(compute) == CUDA_ERROR_NOT_READY && cuStreamQuery(compute) == CUDA_ERROR_NOT_READY);
    check("waiting ends with an error", cuStreamSynchronize(compute) == CUDA_ERROR_LAUNCH_TIMEOUT);
  });
  finds("a kernel that the emulation lacks", "not in the emulation", [] {
    CUmodule m;
    CUfunction f;
    MUST(cuModuleLoadData(&m, ".version 7.0\n.target sm_80\n.visible .entry nowhere()\n{\nret;\n}\n"));
    check("is not found", cuModuleGetFunction(&f, m, "nowhere") == CUDA_ERROR_NOT_FOUND);
  });
  finds("PTX of another source", "the PTX is not that of the source", [] {
    CUmodule m;
    CUfunction f;
    MUST(cuModuleLoadData(&m, ".version 7.0\n.target sm_80\n.visible .entry selftest_race(\n.param .align 8 .b8 selftest_race_param_0[16]\n)\n{\nret;\n}\n"));
    cuModuleGetFunction(&f, m, "selftest_race");
  });
  finds("a launch with other threads than the kernel's", "instead of 128", [] {
    Params p{device, other, 16};
    void *list[] = {&p};
    check("is refused", cuLaunchKernel(function("accumulate"), 1, 1, 1, 64, 1, 1, 0, compute, list, nullptr) == CUDA_ERROR_INVALID_VALUE);
  });

  finds("faults", "", [] {
    CUdeviceptr p;
    uint64_t before = euryaleStandinCalls("");
    euryaleStandinSetFault("cuMemAlloc", 2, CUDA_ERROR_OUT_OF_MEMORY, 0);
    MUST(cuMemAlloc(&p, 16));
    MUST(cuMemFree(p));
    check("the second call of a name fails", cuMemAlloc(&p, 16) == CUDA_ERROR_OUT_OF_MEMORY);
    MUST(cuMemAlloc(&p, 16));
    check("calls are counted, failed ones too", euryaleStandinCalls("") == before + 4);
    euryaleStandinSetFault(nullptr, 3, CUDA_ERROR_UNKNOWN, 1);
    MUST(cuCtxSynchronize());
    MUST(cuCtxSynchronize());
    check("the third call of any name fails", cuCtxSynchronize() == CUDA_ERROR_UNKNOWN);
    size_t live = euryaleStandinLive();
    check("and a later one, if the fault persists", cuMemFree(p) == CUDA_ERROR_UNKNOWN);
    check("what could not be freed is not counted", euryaleStandinLive() == live - 1);
    euryaleStandinSetFault(nullptr, 0, 0, 0);
    euryaleStandinSetFault("execute", 1, CUDA_ERROR_LAUNCH_FAILED, 0);
    MUST(cuMemsetD8Async(device, 0, 16, compute));
    check("an error in the work is seen by who waits", cuStreamSynchronize(compute) == CUDA_ERROR_LAUNCH_FAILED);
    check("and by all after", cuMemsetD8Async(device, 0, 16, compute) == CUDA_ERROR_LAUNCH_FAILED);
    check("but the context can be left", cuDevicePrimaryCtxRelease(0) == CUDA_SUCCESS);
  });
  finds("a device of its own size", "", [] {
    CUdeviceptr p;
    euryaleStandinSetMemory(1 << 20, 1 << 19, 1 << 16);
    check("the largest block", cuMemAlloc(&p, (1 << 16) + 1) == CUDA_ERROR_OUT_OF_MEMORY && cuMemAlloc(&p, 1 << 16) == CUDA_SUCCESS);
    euryaleStandinSetMemoryInfo(3, 4);
    size_t free, total, live, peak, locked;
    MUST(cuMemGetInfo(&free, &total));
    check("what it says of its memory", free == 3 && total == 4);
    euryaleStandinMemory(&live, &peak, &locked);
    check("what is allocated", live == (1 << 16) + 8192 && peak == live && locked == 4096);
  });
}
