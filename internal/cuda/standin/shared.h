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

// What the race detector asks of the running block.
unsigned lane();              // the running thread
uint32_t block_syncs();       // barriers of the block so far
uint32_t warp_syncs(unsigned warp);

} // namespace emulate
