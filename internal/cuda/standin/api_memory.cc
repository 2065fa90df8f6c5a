// Memory and copies.
#include <string.h>

#include "driver.h"

using namespace standin;

#define NOT_NULL(p) \
  if (!(p)) return CUDA_ERROR_INVALID_VALUE

CUresult cuMemGetInfo(size_t *free, size_t *total) {
  ENTER(Call::CONTEXT);
  NOT_NULL(free && total);
  size_t used = state.live + state.taken;
  *free = state.told_total ? state.told_free : used < state.capacity ? state.capacity - used : 0;
  *total = state.told_total ? state.told_total : state.capacity;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *ptr, size_t n) {
  ENTER(Call::CONTEXT);
  NOT_NULL(ptr && n);
  if (capturing()) return invalidate_captures();
  return allocate(ptr, n);
}

CUresult cuMemFree(CUdeviceptr ptr) {
  Call call("cuMemFree", Call::CONTEXT);
  if (call.injected) exempt_memory(ptr);
  if (call.refused || call.dropped) return call.refused;
  if (capturing()) return invalidate_captures();
  return release(ptr);
}

CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *size, CUdeviceptr ptr) {
  ENTER(Call::CONTEXT);
  Allocation *a = is_device(ptr) ? allocation_at(ptr) : nullptr;
  if (!a || !a->alive || ptr >= a->base + a->size) return CUDA_ERROR_NOT_FOUND;
  if (base) *base = a->base;
  if (size) *size = a->size;
  return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **p, size_t n, unsigned int flags) {
  ENTER(Call::CONTEXT);
  NOT_NULL(p && n && flags < 8);
  return allocate_host(p, n, flags);
}

CUresult cuMemFreeHost(void *p) {
  Call call("cuMemFreeHost", Call::CONTEXT);
  if (call.injected) exempt_memory((uint64_t)p);
  if (call.refused || call.dropped) return call.refused;
  NOT_NULL(p);
  return release_host(p, true);
}

CUresult cuMemHostRegister(void *p, size_t n, unsigned int flags) {
  ENTER(Call::CONTEXT);
  NOT_NULL(p && n && flags < 16);
  return add_host_range(p, n, flags, false);
}

CUresult cuMemHostUnregister(void *p) {
  Call call("cuMemHostUnregister", Call::CONTEXT);
  if (call.injected) exempt_memory((uint64_t)p);
  if (call.refused || call.dropped) return call.refused;
  NOT_NULL(p);
  return release_host(p, false);
}

CUresult cuMemHostGetFlags(unsigned int *flags, void *p) {
  ENTER(Call::CONTEXT);
  HostRange *h = host_range_at((uintptr_t)p);
  NOT_NULL(flags && h);
  *flags = h->flags;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr ptr) {
  ENTER(Call::CONTEXT);
  NOT_NULL(data);
  Allocation *a = is_device(ptr) ? allocation_at(ptr) : nullptr;
  bool host = host_range_at(ptr);
  if (!(a && a->alive) && !host) return CUDA_ERROR_INVALID_VALUE;
  if (attribute != CU_POINTER_ATTRIBUTE_MEMORY_TYPE) return CUDA_ERROR_NOT_SUPPORTED;
  *(unsigned *)data = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  return CUDA_SUCCESS;
}

// ---- Copies ----

static double cost(size_t n) { return 1 + n / 1e4; } // as by a link of 10 GB/s

static bool page_locked(const void *p, size_t n) {
  HostRange *h = host_range_at((uintptr_t)p);
  return h && (uintptr_t)p + n <= h->base + h->size;
}

enum Wait { ASYNC, SYNC };

// A copy, whose sides are either pointers of the device or, where host is not null, of the host.
struct Side {
  CUdeviceptr device;
  void *host;
  char *bytes() const { return host ? (char *)host : host_view(device); }
};

static CUresult copy(const Call &call, Side to, Side from, size_t n, CUstream handle, Wait wait) {
  CUresult error;
  Stream *s = stream_of(handle, error);
  if (error) return error;
  if (n == 0) return CUDA_SUCCESS;
  if ((!to.host && !to.device) || (!from.host && !from.device)) return CUDA_ERROR_INVALID_VALUE;
  if (!to.host && (error = check_device_range(to.device, n, call.name))) return error;
  if (!from.host && (error = check_device_range(from.device, n, call.name))) return error;
  bool both_devices = !to.host && !from.host;
  void *host = to.host ? to.host : from.host;
  bool locked = both_devices || page_locked(host, n);
  std::string name = call.name;
  if (!locked && wait == ASYNC) report(name + " of " + std::to_string(n) + " bytes from or to pageable memory is not asynchronous, and unsafe if it is Go's");
  bool guard = locked && !both_devices;
  Task task{name, cost(n), [=]() -> Work {
              std::list<Transfer>::iterator transfer;
              if (guard) transfer = protect(host, n, to.host, name);
              return [=](Op &op) {
                for (const Side &side : {to, from})
                  if (!side.host && !allocation_at(side.device)->alive) {
                    report(op.id.text() + " uses memory that was freed since");
                    return CUDA_ERROR_ILLEGAL_ADDRESS;
                  }
                if (!from.host) device_access(op, from.device, n, READ);
                if (guard) {
                  host_access(op, host, n, to.host ? WRITE : READ);
                  open_pages(host, n);
                }
                memmove(to.bytes(), from.bytes(), n);
                if (!to.host) device_access(op, to.device, n, WRITE);
                if (guard) unprotect(transfer);
                return CUDA_SUCCESS;
              };
            }};
  if ((error = enqueue(s, task))) return error;
  if (to.host || from.host) {
    // From pageable memory the call may return when the bytes are staged: the host knows nothing of their arrival.
    if (wait == SYNC) return finish(s->last, locked || to.host);
    if (!locked && !s->capture) return finish(s->last, false);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD(CUdeviceptr dst, const void *src, size_t n) {
  ENTER(Call::CONTEXT);
  return copy(call, {dst, nullptr}, {0, (void *)src}, n, nullptr, SYNC);
}
CUresult cuMemcpyDtoH(void *dst, CUdeviceptr src, size_t n) {
  ENTER(Call::CONTEXT);
  return copy(call, {0, dst}, {src, nullptr}, n, nullptr, SYNC);
}
CUresult cuMemcpyDtoD(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  ENTER(Call::CONTEXT);
  return copy(call, {dst, nullptr}, {src, nullptr}, n, nullptr, SYNC);
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t n, CUstream stream) {
  ENTER(Call::CONTEXT);
  return copy(call, {dst, nullptr}, {0, (void *)src}, n, stream, ASYNC);
}
CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t n, CUstream stream) {
  ENTER(Call::CONTEXT);
  return copy(call, {0, dst}, {src, nullptr}, n, stream, ASYNC);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream) {
  ENTER(Call::CONTEXT);
  return copy(call, {dst, nullptr}, {src, nullptr}, n, stream, ASYNC);
}

// A pointer of either side, by its value.
static Side side(CUdeviceptr p) { return is_device(p) ? Side{p, nullptr} : Side{0, (void *)p}; }

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  ENTER(Call::CONTEXT);
  return copy(call, side(dst), side(src), n, nullptr, SYNC);
}
CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream) {
  ENTER(Call::CONTEXT);
  return copy(call, side(dst), side(src), n, stream, ASYNC);
}

// ---- Fills ----

template <class T> static CUresult fill(const Call &call, CUdeviceptr dst, T v, size_t n, CUstream handle) {
  CUresult error;
  Stream *s = stream_of(handle, error);
  if (error) return error;
  if (n == 0) return CUDA_SUCCESS;
  if (dst % sizeof(T)) return CUDA_ERROR_INVALID_VALUE;
  if ((error = check_device_range(dst, n * sizeof(T), call.name))) return error;
  return enqueue(s, Task{call.name, cost(n * sizeof(T)), [=]() -> Work {
                           return [=](Op &op) {
                             if (!allocation_at(dst)->alive) {
                               report(op.id.text() + " uses memory that was freed since");
                               return CUDA_ERROR_ILLEGAL_ADDRESS;
                             }
                             T *p = (T *)host_view(dst);
                             for (size_t i = 0; i < n; i++) p[i] = v;
                             device_access(op, dst, n * sizeof(T), WRITE);
                             return CUDA_SUCCESS;
                           };
                         }});
}

CUresult cuMemsetD8(CUdeviceptr dst, unsigned char v, size_t n) {
  ENTER(Call::CONTEXT);
  return fill(call, dst, v, n, nullptr);
}
CUresult cuMemsetD16(CUdeviceptr dst, unsigned short v, size_t n) {
  ENTER(Call::CONTEXT);
  return fill(call, dst, v, n, nullptr);
}
CUresult cuMemsetD32(CUdeviceptr dst, unsigned int v, size_t n) {
  ENTER(Call::CONTEXT);
  return fill(call, dst, v, n, nullptr);
}
CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char v, size_t n, CUstream stream) {
  ENTER(Call::CONTEXT);
  return fill(call, dst, v, n, stream);
}
CUresult cuMemsetD16Async(CUdeviceptr dst, unsigned short v, size_t n, CUstream stream) {
  ENTER(Call::CONTEXT);
  return fill(call, dst, v, n, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr dst, unsigned int v, size_t n, CUstream stream) {
  ENTER(Call::CONTEXT);
  return fill(call, dst, v, n, stream);
}

extern "C" void euryaleStandinAnnotate(CUdeviceptr ptr, size_t bytes, int life, CUstream handle) {
  Call call("euryaleStandinAnnotate", Call::CONTEXT);
  if (call.refused) return;
  auto renew = [=](const Access &by, const Clock &now) {
    Allocation *a = allocation_at(ptr);
    if (!a || !a->alive || ptr + bytes > a->base + a->size) return report("euryaleStandinAnnotate of memory that is not allocated");
    a->shadow.renew(ptr / 16 * 16, (ptr + bytes + 15) / 16 * 16, life, by, now);
    memset(host_view(ptr), life == EURYALE_FREE ? 0xDD : 0xCD, bytes);
  };
  if (handle == EURYALE_NOW) return renew(Access{0, 0, keep("the host"), call.number}, state.host);
  CUresult error;
  if (Stream *s = stream_of(handle, error))
    enqueue(s, Task{life == EURYALE_FREE ? "end of a life" : "start of a life", 0, [=]() -> Work {
                      return [=](Op &op) {
                        renew(op.id, op.clock);
                        return CUDA_SUCCESS;
                      };
                    }});
}
