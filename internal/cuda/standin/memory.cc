// Memory of the device, and page-locked memory of the host.
//
// The device's addresses are reserved and cannot be accessed; its bytes are at a second place, view bytes further on,
// which only the driver and the kernels it runs know. There a page that is not allocated cannot be accessed either. Each
// allocation has pages of its own and one without access behind it, and addresses are not used again until all have
// been.
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>

#include "driver.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)
#define ASAN_UNPOISON_MEMORY_REGION(p, n)
#endif

namespace standin {

const size_t PAGE = 4096, ADDRESSES = 32ull << 30;

static uint64_t device_base;
static uintptr_t view;
static std::map<CUdeviceptr, Allocation> allocations; // by base, with those that were freed
static std::map<CUdeviceptr, Allocation *> living;    // those that were not
static uint64_t next_address;
static std::map<uintptr_t, HostRange> host_ranges;
static std::list<Transfer> transfers;

static size_t pages(size_t n) { return (n + PAGE - 1) / PAGE * PAGE; }

static bool reserve() {
  if (device_base) return true;
  void *p[2];
  for (void *&q : p) {
    q = mmap(nullptr, ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (q == MAP_FAILED) return false;
  }
  if (!emulate::watch((uintptr_t)p[1], ADDRESSES)) return false;
  device_base = next_address = (uint64_t)p[0];
  view = (uint64_t)p[1] - device_base;
  return true;
}

bool is_device(uint64_t ptr) { return device_base && ptr - device_base < ADDRESSES; }
char *host_view(CUdeviceptr ptr) { return (char *)(ptr + view); }

Allocation *allocation_at(uint64_t ptr) {
  auto a = allocations.upper_bound(ptr);
  if (a == allocations.begin()) return nullptr;
  --a;
  return ptr < a->second.base + std::max(pages(a->second.size), PAGE) ? &a->second : nullptr;
}

CUresult allocate(CUdeviceptr *ptr, size_t n) {
  if (!reserve()) return CUDA_ERROR_OUT_OF_MEMORY;
  size_t size = (n + 511) / 512 * 512; // what the device would account for
  size_t used = state.live + state.taken, free = used < state.capacity ? state.capacity - used : 0;
  if (size < n || size > free || (state.largest && size > state.largest)) return CUDA_ERROR_OUT_OF_MEMORY;
  uint64_t need = pages(n) + PAGE;
  if (next_address + need > device_base + ADDRESSES) { // from the start again, over what was freed
    next_address = device_base;
    for (auto a = allocations.begin(); a != allocations.end();) a = a->second.alive ? std::next(a) : allocations.erase(a);
    for (auto &[base, a] : living)
      if (base < next_address + need) next_address = base + pages(a->size) + PAGE;
    if (next_address + need > device_base + ADDRESSES) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  uint64_t base = next_address;
  next_address += need;
  if (mprotect(host_view(base), pages(n), PROT_READ | PROT_WRITE)) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(host_view(base), 0xCD, pages(n));
  ASAN_UNPOISON_MEMORY_REGION(host_view(base), n);
  ASAN_POISON_MEMORY_REGION(host_view(base) + n, pages(n) - n);
  allocations.erase(base);
  auto added = allocations.emplace(base, Allocation{base, n, true, false, running_call->number, Shadow(base, base + (n + 15) / 16 * 16, false)});
  living[base] = &added.first->second;
  state.live += size;
  state.peak = std::max(state.peak, state.live);
  *ptr = base;
  return CUDA_SUCCESS;
}

static void drop(Allocation &a) {
  a.alive = false;
  a.shadow = Shadow(a.base, a.base, false);
  living.erase(a.base);
  state.live -= (a.size + 511) / 512 * 512;
  ASAN_UNPOISON_MEMORY_REGION(host_view(a.base), pages(a.size));
  mmap(host_view(a.base), pages(a.size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

CUresult release(CUdeviceptr ptr) {
  auto a = allocations.find(ptr);
  if (a == allocations.end() || !a->second.alive) {
    if (a != allocations.end()) report("cuMemFree of memory that is free already");
    return CUDA_ERROR_INVALID_VALUE;
  }
  // A free waits for the device, and nobody may count on it: the clock of the host does not learn of the wait. Only
  // when a call failed before, which may have been what waits, it is a way out.
  if (CUresult r = finish_all(state.struck)) return r;
  a->second.shadow.check_all("cuMemFree", state.host);
  drop(a->second);
  return CUDA_SUCCESS;
}

CUresult check_device_range(CUdeviceptr ptr, size_t n, const char *deed) {
  Allocation *a = is_device(ptr) ? allocation_at(ptr) : nullptr;
  if (!a || !a->alive) {
    report(std::string(deed) + (a ? " uses memory that was freed" : " uses an address that is not the device's"));
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (ptr + n > a->base + a->size) {
    report(std::string(deed) + " reaches " + std::to_string(ptr + n - a->base - a->size) + " bytes beyond an allocation of " + std::to_string(a->size));
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

void device_access(Op &op, CUdeviceptr ptr, size_t n, Mode mode) {
  if (Allocation *a = allocation_at(ptr)) a->shadow.access(ptr / 16 * 16, (ptr + n + 15) / 16 * 16, mode, op.id, op.clock);
}

std::vector<Touch> kernel_touches() {
  std::vector<Touch> all;
  for (auto &[base, a] : living) {
    uintptr_t begin = base + view, last = begin + pages(a->size);
    for (Mode mode : {READ, WRITE})
      emulate::runs(mode == READ ? emulate::touched.reads : emulate::touched.writes, begin, last,
                    [&](uintptr_t b, uintptr_t e) { all.push_back(Touch{a, b - begin, e - begin, mode}); });
    emulate::forget(begin, last - 1);
  }
  return all;
}

CUresult kernel_accesses(Op &op, const std::vector<Touch> &touches) {
  CUresult result = CUDA_SUCCESS;
  for (const Touch &t : touches) {
    Allocation &a = *t.allocation;
    size_t end = (a.size + 15) / 16 * 16;
    if (t.end > end) {
      report(op.id.text() + (t.mode == READ ? " reads" : " writes") + " beyond an allocation of " + std::to_string(a.size) + " bytes");
      result = CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    if (t.begin < end) a.shadow.access(a.base + t.begin, a.base + std::min(t.end, end), t.mode, op.id, op.clock);
  }
  return result;
}

// ---- Page-locked memory ----

HostRange *host_range_at(uintptr_t p) {
  auto h = host_ranges.upper_bound(p);
  if (h == host_ranges.begin()) return nullptr;
  --h;
  return p < h->second.base + h->second.size ? &h->second : nullptr;
}

void host_access(Op &op, const void *p, size_t n, Mode mode) {
  HostRange *h = host_range_at((uintptr_t)p);
  if (h && (uintptr_t)p + n <= h->base + h->size) h->shadow.access((uintptr_t)p, (uintptr_t)p + n, mode, op.id, op.clock);
}

static void set_pages(uintptr_t begin, uintptr_t end, int protection) {
  begin = begin / PAGE * PAGE;
  mprotect((void *)begin, pages(end - begin), protection);
}

void open_pages(const void *p, size_t n) {
  if (host_range_at((uintptr_t)p)) set_pages((uintptr_t)p, (uintptr_t)p + n, PROT_READ | PROT_WRITE);
}

// The pages of [begin, end) get the protection that the copies in flight ask for.
static void close_pages(uintptr_t begin, uintptr_t end) {
  begin = begin / PAGE * PAGE, end = begin + pages(end - begin);
  set_pages(begin, end, PROT_READ | PROT_WRITE);
  for (bool to_host : {false, true})
    for (const Transfer &t : transfers)
      if (t.to_host == to_host && t.begin < end && t.end > begin)
        set_pages(std::max(t.begin, begin), std::min(t.end, end), to_host ? PROT_NONE : PROT_READ);
}

std::list<Transfer>::iterator protect(const void *p, size_t n, bool to_host, const std::string &name) {
  transfers.push_back(Transfer{(uintptr_t)p, (uintptr_t)p + n, to_host, keep(name), running_call->number});
  close_pages((uintptr_t)p, (uintptr_t)p + n);
  return std::prev(transfers.end());
}

void unprotect(std::list<Transfer>::iterator t) {
  uintptr_t begin = t->begin, end = t->end;
  transfers.erase(t);
  close_pages(begin, end);
}

CUresult add_host_range(void *p, size_t n, unsigned flags, bool ours) {
  auto h = host_ranges.lower_bound((uintptr_t)p);
  if ((h != host_ranges.end() && h->first < (uintptr_t)p + n) || host_range_at((uintptr_t)p)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  host_ranges.emplace((uintptr_t)p, HostRange{(uintptr_t)p, n, flags, ours, false, Shadow((uintptr_t)p, (uintptr_t)p + n, true)});
  state.host_bytes += n;
  return CUDA_SUCCESS;
}

CUresult allocate_host(void **p, size_t n, unsigned flags) {
  void *m = mmap(nullptr, pages(n), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(m, 0xCD, n);
  *p = m;
  return add_host_range(m, n, flags, true);
}

static void drop_host(std::map<uintptr_t, HostRange>::iterator h) {
  uintptr_t begin = h->second.base, end = begin + h->second.size;
  transfers.remove_if([&](const Transfer &t) { return t.begin < end && t.end > begin; });
  close_pages(begin, end);
  if (h->second.ours) munmap((void *)begin, pages(end - begin));
  state.host_bytes -= h->second.size;
  host_ranges.erase(h);
}

CUresult release_host(void *p, bool ours) {
  auto h = host_ranges.find((uintptr_t)p);
  if (h == host_ranges.end() || h->second.ours != ours) {
    report(std::string(running_call->name) + " of memory that is not page-locked");
    return ours ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  }
  if (CUresult r = finish_all(state.struck)) return r;
  h->second.shadow.check_all(running_call->name, state.host);
  drop_host(h);
  return CUDA_SUCCESS;
}

void exempt_memory(uint64_t p) {
  auto a = allocations.find(p);
  if (a != allocations.end()) a->second.exempt = true;
  auto h = host_ranges.find(p);
  if (h != host_ranges.end()) h->second.exempt = true;
}

size_t live_memory(std::string *leaks) {
  size_t n = 0;
  for (auto &[base, a] : living)
    if (!a->exempt) {
      n++;
      if (leaks) *leaks += ", " + std::to_string(a->size) + " bytes of the device from call " + std::to_string(a->call);
    }
  for (auto &[base, h] : host_ranges)
    if (!h.exempt) {
      n++;
      if (leaks) *leaks += ", " + std::to_string(h.size) + " page-locked bytes";
    }
  return n;
}

void release_all_memory() {
  while (!living.empty()) drop(*living.begin()->second);
  while (!host_ranges.empty()) drop_host(host_ranges.begin());
  transfers.clear();
}

// ---- Faults ----

static struct sigaction before;

// The host touches page-locked memory that a copy in flight uses, or a kernel touches memory that is not there.
static void on_fault(int signal, siginfo_t *info, void *context) {
  uintptr_t at = (uintptr_t)info->si_addr;
  bool write = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2;
  if (executing()) {
    emulate::stop_on_fault(at, write);
  } else if (is_device(at)) {
    fprintf(stderr, "TEST STAND-IN: the host accesses 0x%zx, an address of the device\n", (size_t)at);
  } else if (host_range_at(at)) { // the map changes under the lock alone; a range in use does not go away
    std::lock_guard<std::mutex> hold(lock);
    for (const Transfer &t : transfers)
      if (at >= t.begin && at < t.end && (write || t.to_host))
        report(std::string("the host ") + (write ? "writes" : "reads") + " page-locked memory while a copy that uses it is in flight: " + *t.name +
               " of call " + std::to_string(t.call));
    set_pages(at, at + 1, PROT_READ | PROT_WRITE); // a neighbour in the page is no mistake, and the mistake is told
    return;
  }
  if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  sigaction(SIGSEGV, &before, nullptr); // the access is repeated, and fatal
}

void install_fault_handler() {
  struct sigaction now;
  sigaction(SIGSEGV, nullptr, &now);
  if (now.sa_sigaction == on_fault) return;
  before = now;
  memset(&now, 0, sizeof now);
  now.sa_sigaction = on_fault;
  now.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &now, nullptr);
}

} // namespace standin
