// The driver, its one device, contexts. The device has compute capability 9.0, 1 GiB unless the environment says
// otherwise, and a name that nobody takes for a GPU's.
#include <stdlib.h>
#include <string.h>

#include "driver.h"

namespace standin {

static thread_local std::vector<CUcontext> current;

static CUcontext primary_handle() { return (CUcontext)(0xE0000000ull + state.generation * 16); }

CUresult context_error() {
  if (current.empty() || !current.back()) return CUDA_ERROR_INVALID_CONTEXT;
  if (!state.primary || current.back() != primary_handle()) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return state.ruined;
}

static void start_context() {
  state.host.clear();
  state.streams.clear();
  new_stream(CU_STREAM_DEFAULT, 0);
  new_stream(CU_STREAM_DEFAULT, 0);
  install_fault_handler();
}

size_t live_objects(std::string *leaks) {
  size_t n = live_memory(leaks);
  auto count = [&](size_t many, const char *what) {
    n += many;
    if (many && leaks) *leaks += ", " + std::to_string(many) + " " + what;
  };
  size_t streams = 0, events = 0, modules = 0;
  for (size_t i = 2; i < state.streams.size(); i++) streams += state.streams[i]->alive && !state.streams[i]->exempt;
  for (auto &e : state.events) events += e->alive && !e->exempt;
  for (auto &m : state.modules) modules += m->alive && !m->exempt;
  count(streams, "streams");
  count(events, "events");
  count(modules, "modules");
  count(live_graphs(), "graphs");
  return n;
}

void end_context() {
  if (!state.ruined) { // a ruined context can give nothing back
    for (auto &s : state.streams)
      if (!s->queue.empty()) {
        report("the context ends while " + s->queue.front()->id.text() + " has not run");
        break;
      }
    finish_all(false); // for what it may find
    std::string leaks;
    if (live_objects(&leaks)) report("leak: the context ends with" + leaks.substr(1));
  }
  drop_all();
  release_all_memory();
  forget_graphs();
  state.streams.clear();
  state.events.clear();
  state.modules.clear();
  state.primary = 0;
  state.generation++;
}

} // namespace standin

using namespace standin;

// Of 9.0 the first digit is part 0, the second part 1.
static int capability(int part) {
  const char *set = getenv("EURYALE_STANDIN_CAPABILITY");
  return (set && strlen(set) == 3 ? set : "9.0")[2 * part] - '0';
}

static const char *device_name = "TEST STAND-IN (no GPU)";

#define DEVICE_OK(dev) \
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE
#define NOT_NULL(p) \
  if (!(p)) return CUDA_ERROR_INVALID_VALUE

CUresult cuDriverGetVersion(int *version) {
  ENTER(Call::NOTHING);
  NOT_NULL(version);
  *version = 12000;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
  ENTER(Call::INITIALISED);
  NOT_NULL(count);
  *count = 1;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  ENTER(Call::INITIALISED);
  NOT_NULL(device);
  DEVICE_OK(ordinal);
  *device = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev) {
  ENTER(Call::INITIALISED);
  NOT_NULL(name);
  DEVICE_OK(dev);
  if (len <= 0) return CUDA_ERROR_INVALID_VALUE;
  snprintf(name, len, "%s", device_name);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev) {
  ENTER(Call::INITIALISED);
  NOT_NULL(uuid);
  DEVICE_OK(dev);
  memcpy(uuid->bytes, "test-stand-in-00", 16);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice dev) {
  ENTER(Call::INITIALISED);
  NOT_NULL(bytes);
  DEVICE_OK(dev);
  *bytes = state.capacity;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attrib, CUdevice dev) {
  ENTER(Call::INITIALISED);
  NOT_NULL(value);
  DEVICE_OK(dev);
  static const std::map<int, int> known = {
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 * 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, (int)emulate::MAX_SHARED},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 228 * 1024},
      {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
      {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
      {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000000},
      {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 64},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 4},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
      {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 1 << 20},
      {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
      {CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1},
      {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
      {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
      {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
      {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
  };
  if (attrib <= 0 || attrib > 200) return CUDA_ERROR_INVALID_VALUE;
  if (attrib == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR || attrib == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) {
    *value = capability(attrib == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    return CUDA_SUCCESS;
  }
  auto k = known.find(attrib);
  *value = k == known.end() ? 0 : k->second;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev) {
  ENTER(Call::INITIALISED);
  NOT_NULL(ctx);
  DEVICE_OK(dev);
  if (!state.primary++) start_context();
  *ctx = primary_handle();
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev) {
  ENTER(Call::INITIALISED);
  DEVICE_OK(dev);
  if (!state.primary) return CUDA_ERROR_INVALID_CONTEXT;
  if (!--state.primary) end_context();
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev) {
  ENTER(Call::INITIALISED);
  DEVICE_OK(dev);
  end_context();
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags) {
  ENTER(Call::INITIALISED);
  DEVICE_OK(dev);
  state.primary_flags = flags;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active) {
  ENTER(Call::INITIALISED);
  NOT_NULL(flags && active);
  DEVICE_OK(dev);
  *flags = state.primary_flags;
  *active = state.primary > 0;
  return CUDA_SUCCESS;
}

static bool known_context(CUcontext ctx) { return !ctx || (state.primary && ctx == primary_handle()); }

CUresult cuCtxSetCurrent(CUcontext ctx) {
  ENTER(Call::INITIALISED);
  if (!known_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (current.empty()) current.push_back(nullptr);
  current.back() = ctx;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *ctx) {
  ENTER(Call::INITIALISED);
  NOT_NULL(ctx);
  *ctx = current.empty() ? nullptr : current.back();
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext ctx) {
  ENTER(Call::INITIALISED);
  if (!ctx || !known_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  current.push_back(ctx);
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *ctx) {
  ENTER(Call::INITIALISED);
  if (current.empty() || !current.back()) return CUDA_ERROR_INVALID_CONTEXT;
  if (ctx) *ctx = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  ENTER(Call::CONTEXT);
  NOT_NULL(device);
  *device = 0;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetFlags(unsigned int *flags) {
  ENTER(Call::CONTEXT);
  NOT_NULL(flags);
  *flags = state.primary_flags;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version) {
  ENTER(Call::INITIALISED);
  NOT_NULL(version);
  if (ctx && !known_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  *version = 3020;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  ENTER(Call::CONTEXT);
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
  ENTER(Call::CONTEXT);
  if (capturing()) return invalidate_captures();
  return finish_all();
}
