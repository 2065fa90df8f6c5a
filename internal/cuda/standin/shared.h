// The shared memory of the running block, and races in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulate {

extern char *shared_base; // MAX_SHARED bytes
extern unsigned shared_size;

// Stops the running block; does not return.
[[noreturn]] void stop(int code, const std::string &message);

// Whether it is a variable of the thread, the parameter, or a constant of a kernel.
bool own_memory(uintptr_t p);

void misaligned(const void *p, size_t n);

// An access by the running thread. flying: the bytes come later, by an asynchronous copy.
void shared_access(uintptr_t p, size_t n, bool write, bool flying);

// A new block; the old one's accesses no longer count.
void shared_start(unsigned bytes);

// Where the running block is.
struct Progress {
  uint16_t lane;           // the running thread
  uint32_t phase;          // a number that each barrier of a block, and each new block, raises
  uint16_t warp_syncs[32]; // of each warp of the block
};
extern Progress progress;

} // namespace emulate
