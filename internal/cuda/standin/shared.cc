// Races in shared memory: two threads of a block access the same 2 bytes, one of them writes, and neither a barrier of
// the block nor, within a warp, warp_sync lies between.
#include "shared.h"

#include <cstring>

#include "block.h"

namespace emulate {

alignas(128) static char memory[MAX_SHARED + 128];
char *shared_base = memory;
unsigned shared_size;

struct Access {
  uint16_t lane;
  uint32_t block_syncs, warp_syncs;
};

struct Cell {
  uint32_t block = 0; // the serial number of the block these belong to
  bool written, flying;
  uint8_t readers;
  Access writer, reader[2]; // the last two readers of different lanes
};

static Cell cells[MAX_SHARED / 2];
static uint32_t block;

void shared_start(unsigned bytes) {
  shared_size = bytes;
  memset(shared_base, 0xCD, bytes);
  block++;
}

static bool ordered(const Access &a) {
  if (a.lane == lane() || a.block_syncs != block_syncs()) return true;
  return a.lane / 32 == lane() / 32 && a.warp_syncs != warp_syncs(lane() / 32);
}

static void race(const char *kind, const Access &other, uintptr_t offset) {
  stop(719, std::string("race in shared memory at byte ") + std::to_string(offset) + ": " + kind + " by thread " +
                std::to_string(lane()) + " not ordered after thread " + std::to_string(other.lane));
}

void shared_access(uintptr_t p, size_t n, bool write, bool flying) {
  uintptr_t at = p - (uintptr_t)shared_base;
  if (at >= MAX_SHARED) return; // the thread's own variables
  if (at + n > shared_size)
    stop(700, "access to byte " + std::to_string(at) + " of " + std::to_string(shared_size) + " bytes of shared memory");
  Access me{(uint16_t)lane(), block_syncs(), warp_syncs(lane() / 32)};
  for (uintptr_t i = at / 2; i <= (at + n - 1) / 2; i++) {
    Cell &c = cells[i];
    if (c.block != block) c.block = block, c.written = c.flying = false, c.readers = 0;
    if (c.written && !ordered(c.writer)) race(write ? "write after write" : "read after write", c.writer, at);
    if (c.flying && !(write && !flying && c.writer.lane == me.lane))
      stop(719, "shared memory at byte " + std::to_string(at) + " used while an asynchronous copy to it is under way");
    if (write) {
      for (int r = 0; r < c.readers; r++)
        if (!ordered(c.reader[r])) race("write after read", c.reader[r], at);
      c.written = true, c.flying = flying, c.writer = me, c.readers = 0;
    } else if (c.readers && c.reader[0].lane == me.lane) {
      c.reader[0] = me;
    } else {
      c.reader[1] = c.reader[0], c.reader[0] = me;
      c.readers = c.readers ? 2 : 1;
    }
  }
}

void misaligned(const void *p, size_t n) {
  char text[96];
  snprintf(text, sizeof text, "%zu-byte access to %p, which is not a multiple of it", n, p);
  stop(716, text);
}

} // namespace emulate
