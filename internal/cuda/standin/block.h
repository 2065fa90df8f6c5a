// Running a kernel of the emulation, and what it touched. Used by the driver; kernels see emulate.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "emulate.h"

namespace emulate {

const size_t MAX_SHARED = 227 * 1024;

struct Kernel {
  std::string name;
  size_t param_bytes;
  unsigned threads;
  Body body;
};

std::map<std::string, Kernel> &kernels();

// Where the device's memory is for the host, and which granules of it the running kernel has touched. The bitmaps span
// all addresses of the device; dirty has a bit for each 64-bit word of theirs, so that looking through them is cheap.
const unsigned GRANULE = 16;
struct Before { // what a granule held before the kernel wrote to it
  uintptr_t at;
  char bytes[GRANULE];
  explicit Before(uintptr_t p) : at(p) { memcpy(bytes, (const char *)p, GRANULE); }
};
struct Touched {
  uintptr_t base = 0;
  size_t size = 0;
  uint64_t *reads = nullptr, *writes = nullptr, *dirty = nullptr;
  std::vector<Before> before; // of every granule written
  bool saving = false;        // one is being added
};
extern Touched touched;
bool watch(uintptr_t base, size_t size);

// Calls f(begin, end) with the bounds of every maximal run of granules that were read (before this kernel wrote them),
// or written, within [begin, end) of the host's addresses.
template <class F> void runs(const uint64_t *bits, uintptr_t begin, uintptr_t end, F f);

// Forgets what was touched within [begin, end).
void forget(uintptr_t begin, uintptr_t end);

// The first access outside the device's live memory is found by the page it hits; this is asked by the handler of the
// signal. True if the running kernel was stopped: the call does not return then.
bool stop_on_fault(uintptr_t address, bool write);

struct Result {
  int code = 0;        // a CUresult
  std::string message; // what went wrong, for the report
};

// Runs all blocks, last first if backwards: blocks must not care.
Result run(const Kernel &k, Index grid, unsigned shared_bytes, const void *params, bool backwards);

template <class F> void runs(const uint64_t *bits, uintptr_t begin, uintptr_t end, F f) {
  const uint64_t first = (begin - touched.base) / GRANULE, last = (end - touched.base + GRANULE - 1) / GRANULE;
  uint64_t from = 0;
  bool open = false;
  auto close = [&](uint64_t at) {
    if (open) f(touched.base + from * GRANULE, touched.base + at * GRANULE);
    open = false;
  };
  for (uint64_t w = first / 64; w * 64 < last;) {
    if (w % 64 == 0 && !touched.dirty[w / 64]) { // 64 clean words: 64 KiB
      close(w * 64);
      w += 64;
      continue;
    }
    uint64_t word = bits[w];
    if (word == ~0ull && open) {
      w++;
      continue;
    }
    if (word == 0) {
      close(w * 64);
      w++;
      continue;
    }
    for (unsigned b = 0; b < 64; b++) {
      bool set = word >> b & 1;
      if (set && !open) from = w * 64 + b, open = true;
      if (!set) close(w * 64 + b);
    }
    w++;
  }
  close(last);
}

} // namespace emulate
