// The driver, devices, contexts.
#include <string.h>

#include <thread>

#include "contract.h"
#include "kernels.ptx.h"

void before_init() {
  int n = 0;
  CUdevice dev;
  CUcontext ctx;
  CUdeviceptr p;
  expect("cuDeviceGetCount before cuInit", cuDeviceGetCount(&n), {CUDA_ERROR_NOT_INITIALIZED});
  expect("cuDeviceGet before cuInit", cuDeviceGet(&dev, 0), {CUDA_ERROR_NOT_INITIALIZED});
  expect("cuCtxGetCurrent before cuInit", cuCtxGetCurrent(&ctx), {CUDA_ERROR_NOT_INITIALIZED});
  expect("cuMemAlloc before cuInit", cuMemAlloc(&p, 16), {CUDA_ERROR_NOT_INITIALIZED});
  int version = 0;
  expect("the version can be asked before cuInit", cuDriverGetVersion(&version), {CUDA_SUCCESS});
  check("the driver is of CUDA 11.4 at least", version >= 11040, std::to_string(version));
  expect("cuDriverGetVersion without a place", cuDriverGetVersion(nullptr), {CUDA_ERROR_INVALID_VALUE});
  expect("cuInit with flags", cuInit(1), {CUDA_ERROR_INVALID_VALUE});
  MUST(cuInit(0));
  expect("cuInit again", cuInit(0), {CUDA_SUCCESS});

  const char *s = nullptr;
  expect("the name of an error", cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &s), {CUDA_SUCCESS});
  check("it is that of the enumeration", s && !strcmp(s, "CUDA_ERROR_OUT_OF_MEMORY"));
  expect("the text of an error", cuGetErrorString(CUDA_ERROR_INVALID_VALUE, &s), {CUDA_SUCCESS});
  check("it is not empty", s && *s);
  expect("the name of no error", cuGetErrorName((CUresult)54321, &s), {CUDA_ERROR_INVALID_VALUE});
  check("it is null", s == nullptr);
  s = "";
  expect("the text of no error", cuGetErrorString((CUresult)54321, &s), {CUDA_ERROR_INVALID_VALUE});
  check("it is null too", s == nullptr);
}

static int attribute(CUdevice_attribute a, CUdevice dev) {
  int v = -1;
  MUST(cuDeviceGetAttribute(&v, a, dev));
  return v;
}

static void devices(Device &d) {
  int n = 0;
  MUST(cuDeviceGetCount(&n));
  check("there is a device", n >= 1);
  CUdevice dev;
  expect("a device beyond the last", cuDeviceGet(&dev, n), {CUDA_ERROR_INVALID_DEVICE});
  expect("a negative device", cuDeviceGet(&dev, -1), {CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_VALUE});
  expect("cuDeviceGet without a place", cuDeviceGet(nullptr, 0), {CUDA_ERROR_INVALID_VALUE});
  MUST(cuDeviceGet(&d.id, 0));
  char name[4] = {'x', 'x', 'x', 'x'};
  expect("a name cut short", cuDeviceGetName(name, sizeof name, d.id), {CUDA_SUCCESS});
  check("it ends in zero", memchr(name, 0, sizeof name) != nullptr);
  size_t total = 0;
  expect("the device's memory", cuDeviceTotalMem(&total, d.id), {CUDA_SUCCESS});
  check("it is not nothing", total > 0);
  expect("the memory of no device", cuDeviceTotalMem(&total, 999), {CUDA_ERROR_INVALID_DEVICE});
  check("warps have 32 lanes", attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE, d.id) == 32);
  check("blocks have up to 1,024 threads", attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, d.id) == 1024);
  check("blocks have 48 KiB of shared memory unasked", attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, d.id) == 48 * 1024);
  check("and more when asked", attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, d.id) >= 64 * 1024);
  check("addresses are shared with the host", attribute(CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, d.id) == 1);
  int v;
  expect("an attribute of no device", cuDeviceGetAttribute(&v, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 999), {CUDA_ERROR_INVALID_DEVICE});
  expect("no attribute", cuDeviceGetAttribute(&v, (CUdevice_attribute)100000, d.id), {CUDA_ERROR_INVALID_VALUE});
}

void contexts(Device &d) {
  devices(d);
  CUdeviceptr p;
  CUstream s;
  CUmodule m;
  size_t free, total;
  CUcontext now = (CUcontext)1;
  CUdevice dev;
  expect("the current context of a new thread", cuCtxGetCurrent(&now), {CUDA_SUCCESS});
  check("is none", now == nullptr);
  expect("cuMemAlloc without a context", cuMemAlloc(&p, 16), {CUDA_ERROR_INVALID_CONTEXT});
  expect("cuStreamCreate without a context", cuStreamCreate(&s, 0), {CUDA_ERROR_INVALID_CONTEXT});
  expect("cuCtxSynchronize without a context", cuCtxSynchronize(), {CUDA_ERROR_INVALID_CONTEXT});
  expect("cuCtxGetDevice without a context", cuCtxGetDevice(&dev), {CUDA_ERROR_INVALID_CONTEXT});
  expect("cuMemGetInfo without a context", cuMemGetInfo(&free, &total), {CUDA_ERROR_INVALID_CONTEXT});
  expect("cuModuleLoadData without a context", cuModuleLoadData(&m, kernels_ptx), {CUDA_ERROR_INVALID_CONTEXT});
  expect("cuCtxPopCurrent without a context", cuCtxPopCurrent(&now), {CUDA_ERROR_INVALID_CONTEXT});

  unsigned flags;
  int active = -1;
  expect("the state of the primary context", cuDevicePrimaryCtxGetState(d.id, &flags, &active), {CUDA_SUCCESS});
  check("it is inactive until retained", active == 0);
  expect("release before retain", cuDevicePrimaryCtxRelease(d.id), {CUDA_ERROR_INVALID_CONTEXT});
  MUST(cuDevicePrimaryCtxRetain(&d.context, d.id));
  cuDevicePrimaryCtxGetState(d.id, &flags, &active);
  check("it is active once retained", active == 1);
  now = (CUcontext)1;
  cuCtxGetCurrent(&now);
  check("retaining makes nothing current", now == nullptr);
  CUcontext again = nullptr;
  MUST(cuDevicePrimaryCtxRetain(&again, d.id));
  check("retaining again gives the same context", again == d.context);
  MUST(cuDevicePrimaryCtxRelease(d.id));
  cuDevicePrimaryCtxGetState(d.id, &flags, &active);
  check("retained twice and released once it is active", active == 1);
  expect("retain of no device", cuDevicePrimaryCtxRetain(&again, 999), {CUDA_ERROR_INVALID_DEVICE});

  MUST(cuCtxPushCurrent(d.context));
  cuCtxGetCurrent(&now);
  check("a pushed context is current", now == d.context);
  now = nullptr;
  expect("cuCtxPopCurrent", cuCtxPopCurrent(&now), {CUDA_SUCCESS});
  check("gives what was pushed", now == d.context);
  cuCtxGetCurrent(&now);
  check("and leaves what was before", now == nullptr);
  MUST(cuCtxSetCurrent(d.context));
  expect("cuCtxGetDevice", cuCtxGetDevice(&dev), {CUDA_SUCCESS});
  check("is the device", dev == d.id);

  std::thread([&] {
    CUcontext theirs = (CUcontext)1;
    cuCtxGetCurrent(&theirs);
    check("what is current in one thread is not in another", theirs == nullptr);
    expect("cuMemAlloc in a thread without a context", cuMemAlloc(&p, 16), {CUDA_ERROR_INVALID_CONTEXT});
    cuCtxSetCurrent(d.context);
    expect("the context can be current in two threads", cuMemAlloc(&p, 16), {CUDA_SUCCESS});
  }).join();
  expect("memory of another thread can be freed", cuMemFree(p), {CUDA_SUCCESS});
  expect("cuCtxSetCurrent of none", cuCtxSetCurrent(nullptr), {CUDA_SUCCESS});
  expect("takes the context away", cuMemAlloc(&p, 16), {CUDA_ERROR_INVALID_CONTEXT});
  MUST(cuCtxSetCurrent(d.context));
  expect("the end of idle work", cuCtxSynchronize(), {CUDA_SUCCESS});
}

void end_of_context(Device &d) {
  unsigned flags;
  int active = -1;
  expect("cuModuleUnload", cuModuleUnload(d.module), {CUDA_SUCCESS});
  expect("the last release", cuDevicePrimaryCtxRelease(d.id), {CUDA_SUCCESS});
  cuDevicePrimaryCtxGetState(d.id, &flags, &active);
  check("makes it inactive", active == 0);
  CUdeviceptr p;
  expect("a released context is of no use", cuMemAlloc(&p, 16), {CUDA_ERROR_CONTEXT_IS_DESTROYED, CUDA_ERROR_INVALID_CONTEXT});
}

void ruined_context() {
  Device d{};
  MUST(cuInit(0));
  MUST(cuDevicePrimaryCtxRetain(&d.context, 0));
  MUST(cuCtxSetCurrent(d.context));
  MUST(cuModuleLoadData(&d.module, kernels_ptx));
  MUST(cuModuleGetFunction(&d.fill, d.module, "contract_fill"));
  CUdeviceptr p, q;
  CUstream s;
  MUST(cuMemAlloc(&p, 4096));
  expect("a launch with a bad address is accepted", launch(d.fill, Params{16, 256, 1}, nullptr), {CUDA_SUCCESS});
  expect("whoever waits for it is told", cuCtxSynchronize(), {CUDA_ERROR_ILLEGAL_ADDRESS});
  expect("and told again", cuCtxSynchronize(), {CUDA_ERROR_ILLEGAL_ADDRESS});
  expect("no memory from a ruined context", cuMemAlloc(&q, 4096), {CUDA_ERROR_ILLEGAL_ADDRESS});
  expect("no stream from a ruined context", cuStreamCreate(&s, 0), {CUDA_ERROR_ILLEGAL_ADDRESS});
  unsigned v;
  expect("no copy in a ruined context", cuMemcpyDtoH(&v, p, 4), {CUDA_ERROR_ILLEGAL_ADDRESS});
  int n = 0;
  expect("the driver still counts devices", cuDeviceGetCount(&n), {CUDA_SUCCESS});
}
