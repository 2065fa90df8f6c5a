// Modules, functions, launches. A module is loaded from PTX, as on a device; what runs is the emulation's kernel of the
// same name, so the two must agree on the size of the parameter and the threads of a block.
#include <stdlib.h>
#include <string.h>

#include "driver.h"

using namespace standin;

#define NOT_NULL(p) \
  if (!(p)) return CUDA_ERROR_INVALID_VALUE

static CUresult load(CUmodule *module, const void *image) {
  NOT_NULL(module && image);
  if (capturing()) return invalidate_captures();
  const char *text = (const char *)image;
  bool is_text = true; // the first bytes decide whether this can be PTX
  for (int i = 0; i < 4 && is_text && text[i]; i++) is_text = (unsigned char)text[i] < 127 && ((unsigned char)text[i] >= 32 || strchr("\t\r\n", text[i]));
  if (!is_text || !text[0]) return CUDA_ERROR_INVALID_IMAGE;
  std::string ptx = text;
  if (ptx.find(".version") == std::string::npos || ptx.find(".target") == std::string::npos) return CUDA_ERROR_INVALID_PTX;
  long depth = 0;
  for (char c : ptx) depth += (c == '{') - (c == '}');
  if (depth) return CUDA_ERROR_INVALID_PTX;
  state.modules.push_back(std::make_unique<Module>());
  state.modules.back()->ptx = std::move(ptx);
  *module = (CUmodule)state.modules.back().get();
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  ENTER(Call::CONTEXT);
  return load(module, image);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int, CUjit_option *, void **) {
  ENTER(Call::CONTEXT);
  return load(module, image);
}

static Module *module_of(CUmodule handle) {
  for (auto &m : state.modules)
    if ((CUmodule)m.get() == handle) {
      if (m->alive) return m.get();
      report(std::string(running_call->name) + " of a module that was unloaded");
    }
  return nullptr;
}

CUresult cuModuleUnload(CUmodule module) {
  Call call("cuModuleUnload", Call::CONTEXT);
  if (call.dropped) return CUDA_SUCCESS;
  if (call.refused) {
    for (auto &m : state.modules)
      if (call.injected && (CUmodule)m.get() == module) m->exempt = true;
    return call.refused;
  }
  Module *m = module_of(module);
  if (!m) return CUDA_ERROR_INVALID_HANDLE;
  if (CUresult r = finish_all(false)) return r;
  m->alive = false;
  return CUDA_SUCCESS;
}

// The number after the first occurrence of what behind at, 0 if there is none before the end.
static unsigned number_after(const std::string &ptx, size_t at, size_t end, const std::string &what) {
  size_t found = ptx.find(what, at);
  return found == std::string::npos || found > end ? 0 : atoi(ptx.c_str() + found + what.size());
}

// Where the declaration of the kernel begins, after its name.
static size_t entry(const std::string &ptx, const std::string &name) {
  const std::string key = ".entry " + name;
  for (size_t at = ptx.find(key); at != std::string::npos; at = ptx.find(key, at + 1))
    if (char next = ptx[at + key.size()]; next == '(' || next == ' ' || next == '\n' || next == '\t') return at + key.size();
  return std::string::npos;
}

CUresult cuModuleGetFunction(CUfunction *f, CUmodule module, const char *name) {
  ENTER(Call::CONTEXT);
  Module *m = module_of(module);
  if (!m) return CUDA_ERROR_INVALID_HANDLE;
  NOT_NULL(f && name);
  auto known = m->functions.find(name);
  if (known == m->functions.end()) {
    size_t at = entry(m->ptx, name);
    if (at == std::string::npos) return CUDA_ERROR_NOT_FOUND;
    auto k = emulate::kernels().find(name);
    if (k == emulate::kernels().end()) {
      report(std::string("kernel ") + name + " is in the PTX and not in the emulation");
      return CUDA_ERROR_NOT_FOUND;
    }
    size_t body = m->ptx.find('{', at);
    unsigned bytes = number_after(m->ptx, at, body, "_param_0["), threads = number_after(m->ptx, at, body, ".maxntid ");
    if ((bytes && bytes != k->second.param_bytes) || (threads && threads != k->second.threads)) {
      report(std::string("kernel ") + name + " takes " + std::to_string(bytes) + " bytes and " + std::to_string(threads) + " threads in the PTX, " +
             std::to_string(k->second.param_bytes) + " and " + std::to_string(k->second.threads) + " in the emulation: the PTX is not that of the source");
      return CUDA_ERROR_NOT_FOUND;
    }
    known = m->functions.emplace(name, std::make_unique<Function>(Function{&k->second})).first;
  }
  *f = (CUfunction)known->second.get();
  return CUDA_SUCCESS;
}

static Function *function_of(CUfunction handle) {
  for (auto &m : state.modules)
    for (auto &[name, f] : m->functions)
      if ((CUfunction)f.get() == handle && m->alive) return f.get();
  return nullptr;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attrib, CUfunction handle) {
  ENTER(Call::CONTEXT);
  NOT_NULL(value);
  Function *f = function_of(handle);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  switch (attrib) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = f->kernel->threads; break;
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = 0; break;
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: *value = 0; break;
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = 0; break;
  case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 64; break;
  case CU_FUNC_ATTRIBUTE_PTX_VERSION: *value = 80; break;
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = 90; break;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = f->max_dynamic_shared; break;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = -1; break;
  default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attrib, int value) {
  ENTER(Call::CONTEXT);
  Function *f = function_of(handle);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  if (attrib == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return value < -1 || value > 100 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  if (attrib != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > (int)emulate::MAX_SHARED) return CUDA_ERROR_INVALID_VALUE;
  f->max_dynamic_shared = value;
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction handle, int size, size_t shared) {
  ENTER(Call::CONTEXT);
  Function *f = function_of(handle);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  NOT_NULL(blocks && size > 0);
  int by_threads = 2048 / size, by_shared = (int)(emulate::MAX_SHARED / (shared + 1024));
  *blocks = by_threads < by_shared ? by_threads : by_shared;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                        CUstream stream, void **kernel_params, void **extra) {
  ENTER(Call::CONTEXT);
  Function *f = function_of(handle);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  CUresult error;
  Stream *s = stream_of(stream, error);
  if (!s) return error;
  if (!gx || !gy || !gz || !bx || !by || !bz) return CUDA_ERROR_INVALID_VALUE;
  if (gx > 0x7fffffff || gy > 65535 || gz > 65535) return CUDA_ERROR_INVALID_VALUE;
  if (bx > 1024 || by > 1024 || bz > 64 || (uint64_t)bx * by * bz > f->kernel->threads) return CUDA_ERROR_INVALID_VALUE;
  if ((int)shared < 0 || (int)shared > f->max_dynamic_shared) return CUDA_ERROR_INVALID_VALUE;
  const emulate::Kernel *k = f->kernel;
  if (bx != k->threads) { // a device would run it; our kernels are written for one size
    report("kernel " + k->name + " launched with " + std::to_string(bx) + " threads instead of " + std::to_string(k->threads));
    return CUDA_ERROR_INVALID_VALUE;
  }
  const char *given = nullptr;
  if (kernel_params) given = (const char *)kernel_params[0];
  for (int i = 0; extra && extra[i] != CU_LAUNCH_PARAM_END; i += 2)
    if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) given = (const char *)extra[i + 1];
  if ((k->param_bytes && !given) || (kernel_params && extra)) return CUDA_ERROR_INVALID_VALUE;
  Launch launch{k, {gx, gy, gz}, shared, std::vector<char>(given, given + k->param_bytes)};
  return enqueue(s, Task{"kernel " + k->name, 10, [=]() -> Work { return [=](Op &op) { return run_kernel(op, launch); }; }});
}
