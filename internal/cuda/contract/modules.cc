// Modules, functions, launches.
#include <vector>

#include "contract.h"
#include "kernels.ptx.h"

static void loading(Device &d) {
  CUmodule m;
  CUfunction f;
  const char *cut = ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry f() {\n";
  expect("PTX that ends too early", cuModuleLoadData(&m, cut), {CUDA_ERROR_INVALID_PTX});
  expect("no PTX", cuModuleLoadData(&m, nullptr), {CUDA_ERROR_INVALID_VALUE});
  expect("a module without a place", cuModuleLoadData(nullptr, kernels_ptx), {CUDA_ERROR_INVALID_VALUE});
  expect("good PTX", cuModuleLoadData(&d.module, kernels_ptx), {CUDA_SUCCESS});
  expect("a function that is not there", cuModuleGetFunction(&f, d.module, "no_such_kernel"), {CUDA_ERROR_NOT_FOUND});
  expect("a function by a part of its name", cuModuleGetFunction(&f, d.module, "contract"), {CUDA_ERROR_NOT_FOUND});
  expect("a function without a place", cuModuleGetFunction(nullptr, d.module, "contract_fill"), {CUDA_ERROR_INVALID_VALUE});
  expect("a function", cuModuleGetFunction(&d.fill, d.module, "contract_fill"), {CUDA_SUCCESS});
  MUST(cuModuleGetFunction(&d.add, d.module, "contract_add"));
  MUST(cuModuleGetFunction(&d.reverse, d.module, "contract_reverse"));
  MUST(cuModuleGetFunction(&d.spin, d.module, "contract_spin"));
  expect("a module with options", cuModuleLoadDataEx(&m, kernels_ptx, 0, nullptr, nullptr), {CUDA_SUCCESS});
  expect("is unloaded", cuModuleUnload(m), {CUDA_SUCCESS});
}

static CUresult reverse(const Device &d, CUdeviceptr p, unsigned shared) {
  Params params{p, shared, 0};
  void *list[] = {&params};
  return cuLaunchKernel(d.reverse, 1, 1, 1, 256, 1, 1, shared, nullptr, list, nullptr);
}

static void shared_memory(Device &d, CUdeviceptr p) {
  int v = -1, most = 0;
  expect("threads of a function", cuFuncGetAttribute(&v, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, d.reverse), {CUDA_SUCCESS});
  check("are what the kernel declares at most", v == 256, std::to_string(v));
  expect("no attribute of a function", cuFuncGetAttribute(&v, (CUfunction_attribute)1000, d.reverse), {CUDA_ERROR_INVALID_VALUE});
  MUST(cuDeviceGetAttribute(&most, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, d.id));
  std::vector<unsigned> in(256), out(256);
  for (unsigned i = 0; i < 256; i++) in[i] = i;
  MUST(cuMemcpyHtoD(p, in.data(), 1024));
  MUST(cuCtxSynchronize());
  expect("48 KiB of shared memory need no leave", reverse(d, p, 48 * 1024), {CUDA_SUCCESS});
  expect("more does", reverse(d, p, 60 * 1024), {CUDA_ERROR_INVALID_VALUE});
  expect("that was no lasting error", cuCtxSynchronize(), {CUDA_SUCCESS});
  MUST(cuMemcpyDtoH(out.data(), p, 1024));
  check("the block turned its numbers round", out[0] == 255 && out[255] == 0);
  expect("leave for more than there is", cuFuncSetAttribute(d.reverse, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most + 1), {CUDA_ERROR_INVALID_VALUE});
  expect("leave for all there is", cuFuncSetAttribute(d.reverse, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most), {CUDA_SUCCESS});
  MUST(cuFuncGetAttribute(&v, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, d.reverse));
  check("is remembered", v == most);
  expect("all of it in a launch", reverse(d, p, most), {CUDA_SUCCESS});
  expect("and one more byte", reverse(d, p, most + 1), {CUDA_ERROR_INVALID_VALUE});
  MUST(cuMemcpyDtoH(out.data(), p, 1024));
  check("the block turned them back", out[0] == 0 && out[255] == 255);
  expect("an attribute that cannot be set", cuFuncSetAttribute(d.reverse, CU_FUNC_ATTRIBUTE_NUM_REGS, 10), {CUDA_ERROR_INVALID_VALUE});
}

void modules(Device &d) {
  loading(d);
  CUdeviceptr p;
  MUST(cuMemAlloc(&p, 4096));
  shared_memory(d, p);

  Params params{p, 1000, 42};
  void *list[] = {&params};
  expect("a grid of no blocks", cuLaunchKernel(d.fill, 0, 1, 1, 256, 1, 1, 0, nullptr, list, nullptr), {CUDA_ERROR_INVALID_VALUE});
  expect("a block of no threads", cuLaunchKernel(d.fill, 1, 1, 1, 0, 1, 1, 0, nullptr, list, nullptr), {CUDA_ERROR_INVALID_VALUE});
  expect("a block of 2,048 threads", cuLaunchKernel(d.fill, 1, 1, 1, 2048, 1, 1, 0, nullptr, list, nullptr), {CUDA_ERROR_INVALID_VALUE});
  expect("a grid 65,536 high", cuLaunchKernel(d.fill, 1, 65536, 1, 256, 1, 1, 0, nullptr, list, nullptr), {CUDA_ERROR_INVALID_VALUE});
  expect("no function", cuLaunchKernel(nullptr, 1, 1, 1, 256, 1, 1, 0, nullptr, list, nullptr), {CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE});
  size_t bytes = sizeof params;
  void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &params, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
  expect("parameters in both ways", cuLaunchKernel(d.fill, 4, 1, 1, 256, 1, 1, 0, nullptr, list, extra), {CUDA_ERROR_INVALID_VALUE});
  expect("those were no lasting errors", cuCtxSynchronize(), {CUDA_SUCCESS});
  expect("parameters as a buffer", cuLaunchKernel(d.fill, 4, 1, 1, 256, 1, 1, 0, nullptr, nullptr, extra), {CUDA_SUCCESS});
  check("reach the kernel", first_number(p) == 42);

  // The driver copies parameters when the launch is asked for.
  CUstream s;
  MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  MUST(spin(d, s));
  params.value = 1;
  MUST(cuLaunchKernel(d.fill, 4, 1, 1, 256, 1, 1, 0, s, list, nullptr));
  params.value = 2;
  check("parameters are those of the time of the launch", first_number(p) == 1);
  MUST(cuStreamDestroy(s));
  MUST(cuMemFree(p));
}
