// Races in shared memory: two threads of a block access the same 2 bytes, one of them writes, and neither a barrier of
// the block nor, within a warp, warp_sync lies between. The emulation spends most of its time here.
#include "shared.h"

#include <cstdio>
#include <cstring>

#include "block.h"

namespace emulate {

alignas(128) static char memory[MAX_SHARED + 128];
char *shared_base = memory;
unsigned shared_size;
Progress progress;

const uint16_t NOBODY = 0xffff;

struct Access {
  uint16_t lane, warp_syncs;
};

// The accesses since the last barrier, in which phase they were, and a copy under way.
struct Cell {
  uint32_t phase;
  uint16_t flying; // the lane that copies
  Access writer, reader[2]; // the last two readers of different lanes
};

static Cell cells[MAX_SHARED / 2];
static uint32_t first_phase; // of this block

void shared_start(unsigned bytes) {
  shared_size = bytes;
  memset(shared_base, 0xCD, bytes);
  first_phase = ++progress.phase;
  memset(progress.warp_syncs, 0, sizeof progress.warp_syncs);
}

// Whether a, since the last barrier, is ordered before what the running thread does now.
static inline bool ordered(const Access &a) {
  return a.lane == NOBODY || a.lane == progress.lane ||
         (a.lane / 32 == progress.lane / 32 && a.warp_syncs != progress.warp_syncs[progress.lane / 32]);
}

[[noreturn]] static void race(const char *kind, unsigned other, uintptr_t offset) {
  stop(719, std::string("race in shared memory at byte ") + std::to_string(offset) + ": " + kind + " by thread " +
                std::to_string(progress.lane) + " not ordered after thread " + std::to_string(other));
}

void shared_access(uintptr_t p, size_t n, bool write, bool flying) {
  uintptr_t at = p - (uintptr_t)shared_base;
  if (at + n > shared_size)
    stop(700, "access to byte " + std::to_string(at) + " of " + std::to_string(shared_size) + " bytes of shared memory");
  const Access me{progress.lane, progress.warp_syncs[progress.lane / 32]}, nobody{NOBODY, 0};
  for (uintptr_t i = at / 2; i <= (at + n - 1) / 2; i++) {
    Cell &c = cells[i];
    if (c.phase != progress.phase) {
      if (c.phase < first_phase) c.flying = NOBODY;
      c.phase = progress.phase;
      c.writer = c.reader[0] = c.reader[1] = nobody;
    }
    if (c.flying != NOBODY && !(write && !flying && c.flying == me.lane))
      stop(719, "shared memory at byte " + std::to_string(at) + " used while an asynchronous copy to it is under way");
    if (!ordered(c.writer)) race(write ? "write after write" : "read after write", c.writer.lane, at);
    if (write) {
      for (const Access &r : c.reader)
        if (!ordered(r)) race("write after read", r.lane, at);
      c.flying = flying ? me.lane : NOBODY;
      c.writer = me;
      c.reader[0] = c.reader[1] = nobody;
    } else {
      if (c.reader[0].lane != me.lane) c.reader[1] = c.reader[0];
      c.reader[0] = me;
    }
  }
}

void misaligned(const void *p, size_t n) {
  char text[96];
  snprintf(text, sizeof text, "%zu-byte access to %p, which is not a multiple of it", n, p);
  stop(716, text);
}

} // namespace emulate
