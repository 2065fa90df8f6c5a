// The hooks that the compiler puts before each access to memory of the kernels (they are those of its thread
// sanitizer; this library answers them itself): which granules of device memory a kernel reads and writes, races
// between threads of a block in shared memory, misaligned addresses.
#include <stdio.h>
#include <sys/mman.h>

#include "block.h"
#include "shared.h"

namespace emulate {

Touched touched;

static uint64_t *reserve(size_t words) {
  void *p = mmap(nullptr, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : (uint64_t *)p;
}

bool watch(uintptr_t base, size_t size) {
  size_t words = size / GRANULE / 64 + 1;
  touched.base = base, touched.size = size;
  touched.reads = reserve(words), touched.writes = reserve(words), touched.dirty = reserve(words / 64 + 1);
  return touched.reads && touched.writes && touched.dirty;
}

void forget(uintptr_t begin, uintptr_t end) {
  uint64_t first = (begin - touched.base) / GRANULE / 64, last = (end - touched.base) / GRANULE / 64;
  for (uint64_t w = first; w <= last;) {
    if (touched.dirty[w / 64] >> (w % 64) & 1) {
      touched.reads[w] = touched.writes[w] = 0;
      touched.dirty[w / 64] &= ~(1ull << (w % 64));
    }
    w = touched.dirty[w / 64] ? w + 1 : (w / 64 + 1) * 64;
  }
}

static inline void touch(uintptr_t at, bool write) {
  uint64_t g = at / GRANULE, w = g / 64, bit = 1ull << (g % 64);
  if (write) {
    if (touched.writes[w] & bit) return;
    touched.writes[w] |= bit;
    touched.saving = true;
    touched.before.emplace_back(touched.base + g * GRANULE);
    touched.saving = false;
  } else {
    if ((touched.reads[w] | touched.writes[w]) & bit) return;
    touched.reads[w] |= bit;
  }
  touched.dirty[w / 64] |= 1ull << (w % 64);
}

void access(const void *p, size_t n, bool write) {
  uintptr_t at = (uintptr_t)p - touched.base;
  if (at < touched.size) {
    touch(at, write);
    for (uintptr_t next = (at / GRANULE + 1) * GRANULE; next < at + n; next += GRANULE) touch(next, write);
  } else if ((uintptr_t)p - (uintptr_t)shared_base < MAX_SHARED) {
    shared_access((uintptr_t)p, n, write, false);
  } else if (!own_memory((uintptr_t)p)) {
    char text[96];
    snprintf(text, sizeof text, "%s of address %p, which is no memory of the device", write ? "write" : "read", p);
    stop(700, text);
  }
}

static inline void aligned(const void *p, size_t n, bool write) {
  if ((uintptr_t)p & (n - 1)) misaligned(p, n);
  access(p, n, write);
}

} // namespace emulate

#define HOOKS(n)                                                                          \
  void __tsan_read##n(void *p) { emulate::aligned(p, n, false); }                        \
  void __tsan_write##n(void *p) { emulate::aligned(p, n, true); }                        \
  void __tsan_unaligned_read##n(void *p) { emulate::access(p, n, false); }               \
  void __tsan_unaligned_write##n(void *p) { emulate::access(p, n, true); }

extern "C" {
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void *p, size_t n) { emulate::access(p, n, false); }
void __tsan_write_range(void *p, size_t n) { emulate::access(p, n, true); }
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void *, void *) {}
void __tsan_vptr_read(void *) {}
}
