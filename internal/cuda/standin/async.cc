// Barriers in shared memory, bulk copies and products of tiles, as Note [Hopper] in ../kernels/hopper.h has them. All that
// may be late is as late as it can be: a bulk copy arrives when nobody can go on and somebody waits for its barrier; a
// product is done, and reads its tiles, when its warp waits for it, and until then its sums are not numbers.
//
// Whether a tile is read and refilled in the right order is not left to how late things happen to be. Each thread has a
// vector clock; arriving at a barrier gives it away, seeing its phase complete takes it over. Of each 16 bytes of shared
// memory that tiles lie in, the last write and the last read of each warp are kept, and what is not ordered is reported.
#include "async.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "block.h"
#include "emulate_hopper.h"
#include "shared.h"
#include "tensor_map.h"

namespace emulate {

void access(const void *p, size_t n, bool write);

// Shared memory begins at an address that is a multiple of 128 and of no more, as a device may have it.
const uint32_t BASE = 0x480;
const unsigned MOST_THREADS = 512, MOST_BARRIERS = 64, COMPONENTS = MOST_THREADS + MOST_BARRIERS, MOST_WARPS = MOST_THREADS / 32;
const int MOST_BYTES = (1 << 20) - 1; // that a phase can wait for
const uint16_t NOBODY = 0xffff;

struct Clock {
  uint32_t at[COMPONENTS];
  void join(const Clock &c, unsigned n) {
    for (unsigned i = 0; i < n; i++) at[i] = at[i] > c.at[i] ? at[i] : c.at[i];
  }
};

struct Granule {
  uint32_t version, written_at; // a number that rises with each write; the time of the last one on its writer's clock
  uint16_t writer;              // a thread, or MOST_THREADS + a barrier, or NOBODY
  bool flying, fenced;          // under way; known to the async proxy
  uint32_t read_at[MOST_WARPS];
};

struct Barrier {
  uint32_t number;
  int expected, missing, bytes;
  uint32_t phases; // that are complete
  unsigned thread; // that initialised it
  uint32_t since;
  bool fenced;
  Clock next, done;
  std::vector<unsigned> waiters;
};

struct Flight {
  unsigned barrier;
  TensorMapContents map;
  uint32_t to;
  int column, row;
};

struct Op {
  uint64_t a, b;
  int registers;
  bool brain;
  unsigned group;
  uint32_t version; // of shared memory when it was issued
  bool operator!=(const Op &o) const { return a != o.a || b != o.b || registers != o.registers || brain != o.brain || group != o.group; }
};

// The products of a thread that nobody waited for. The sums it had before are hidden.
struct Lane {
  std::vector<Op> ops;
  std::vector<float> hidden;
  float *sums = nullptr;
  unsigned committed = 0;
  bool fence = false;
};

struct Group {
  std::vector<std::pair<uint64_t, uint64_t>> issued; // by the warp that is ahead
  size_t by[4] = {0, 0, 0, 0};
};

static bool active;
static unsigned threads;
static uint32_t version;
static Clock clocks[MOST_THREADS];
static Granule granules[MAX_SHARED / 16];
static std::vector<Barrier> barriers;
static std::vector<Flight> flights;
static std::vector<uint32_t> unfenced[MOST_THREADS]; // granules
static Lane lanes[MOST_THREADS];
static unsigned warp_waits[MOST_WARPS];
static Group groups[MOST_THREADS / 128];

static unsigned components() { return MOST_THREADS + (unsigned)barriers.size(); }
static unsigned self() { return progress.lane; }

void async_start(unsigned n) { threads = n, active = false; }

// The first barrier of a block makes it one that this file looks after.
static void activate() {
  if (threads > MOST_THREADS || threads % 128) stop(719, "barriers in a block of " + std::to_string(threads) + " threads are not modelled");
  active = true, version = 0;
  memset(clocks, 0, sizeof clocks);
  memset((void *)granules, 0, (shared_size / 16 + 1) * sizeof *granules);
  for (Granule &g : granules) g.writer = NOBODY;
  barriers.clear(), flights.clear();
  for (unsigned t = 0; t < threads; t++) {
    clocks[t].at[t] = 1;
    unfenced[t].clear();
    lanes[t] = Lane{};
  }
  memset(warp_waits, 0, sizeof warp_waits);
  for (Group &g : groups) g = Group{};
}

uint32_t shared_number(const void *p) { return (uint32_t)((const char *)p - shared_base) + BASE; }

static std::string byte(uint32_t number) { return "byte " + std::to_string(number - BASE) + " of shared memory"; }

static Granule &granule(uint32_t number) {
  if (number - BASE >= shared_size) stop(700, "tile at " + byte(number) + ", which has " + std::to_string(shared_size));
  return granules[(number - BASE) / 16];
}

static char *at(uint32_t number) { return shared_base + (number - BASE); }

// The 128-byte swizzle.
static uint32_t swizzled(uint32_t number) { return number ^ (number >> 3 & 0x70); }

// ---- barriers ----

static unsigned find(uint32_t number) {
  for (unsigned i = 0; i < barriers.size(); i++) {
    const Barrier &b = barriers[i];
    if (b.number != number) continue;
    if (b.thread != self() && b.since == progress.phase)
      stop(719, "barrier at " + byte(number) + " used without a block_sync after thread " + std::to_string(b.thread) + " initialised it");
    return i;
  }
  stop(719, "there is no barrier at " + byte(number));
}

void init(uint32_t number, int arrivals) {
  if (!active) activate();
  if (number % 8) stop(716, "barrier at " + byte(number) + ", which is no multiple of 8");
  if (number - BASE + 8 > shared_size) stop(700, "barrier at " + byte(number) + ", which has " + std::to_string(shared_size));
  if (arrivals < 1 || arrivals > MOST_BYTES) stop(719, "a barrier for " + std::to_string(arrivals) + " arrivals");
  for (const Barrier &b : barriers)
    if (b.number == number) stop(719, "barrier at " + byte(number) + " initialised twice");
  if (barriers.size() == MOST_BARRIERS) stop(719, "so many barriers are not modelled");
  barriers.push_back(Barrier{number, arrivals, arrivals, 0, 0, self(), progress.phase, false, {}, {}, {}});
}

void init_fence() {
  for (Barrier &b : barriers) b.fenced |= b.thread == self();
  proxy_fence();
}

static void complete(Barrier &b) {
  if (b.missing || b.bytes) return;
  b.phases++;
  b.missing = b.expected;
  b.done.join(b.next, components());
  for (unsigned t : b.waiters) wake(t);
  b.waiters.clear();
}

void arrive(uint32_t number, int bytes) {
  Barrier &b = barriers[find(number)];
  if (b.missing == 0) stop(719, "one arrival more at the barrier at " + byte(number) + " than it expects");
  b.bytes += bytes;
  if (std::abs(b.bytes) > MOST_BYTES) stop(719, "barrier at " + byte(number) + " waits for too many bytes");
  b.next.join(clocks[self()], components());
  clocks[self()].at[self()]++;
  b.missing--;
  complete(b);
}

void wait(uint32_t number, uint32_t parity) {
  const unsigned i = find(number), me = self();
  if (parity > 1) stop(719, "wait for parity " + std::to_string(parity));
  while (parity == (barriers[i].phases & 1)) {
    barriers[i].waiters.push_back(me);
    park(FOR_BARRIER);
  }
  clocks[me].join(barriers[i].done, components());
}

std::string async_missing() {
  std::string text;
  if (active)
    for (const Barrier &b : barriers)
      if (!b.waiters.empty())
        text += "; the barrier at " + byte(b.number) + " lacks " + std::to_string(b.missing) + " arrivals and " + std::to_string(b.bytes) + " bytes";
  return text;
}

// ---- the order of reads and writes ----

static bool covered(const Clock &c, uint16_t component, uint32_t time) { return component == NOBODY || c.at[component] >= time; }

// A write by the running thread to a place of tiles begins, at once or by a copy.
static void begin_write(uint32_t number) {
  Granule &g = granule(number);
  const Clock &now = clocks[self()];
  if (g.flying) stop(719, byte(number) + " written while a copy to it is under way");
  if (!covered(now, g.writer, g.written_at)) stop(719, byte(number) + " written again without waiting for what was written there");
  for (unsigned w = 0; w < threads / 32; w++)
    if (now.at[w * 32] < g.read_at[w])
      stop(719, byte(number) + " refilled without waiting for the products of warp " + std::to_string(w) + ", which read it");
  g.flying = true;
}

static void end_write(uint32_t number, uint16_t writer, uint32_t time, bool fenced) {
  Granule &g = granule(number);
  g.flying = false, g.fenced = fenced;
  g.writer = writer, g.written_at = time, g.version = ++version;
}

void async_copy(const void *to, bool landed) {
  if (!active) return;
  uint32_t number = shared_number(to);
  if (!landed) return begin_write(number);
  end_write(number, (uint16_t)self(), clocks[self()].at[self()], false);
  unfenced[self()].push_back(number);
}

void proxy_fence() {
  for (uint32_t number : unfenced[self()])
    if (granule(number).writer == self()) granule(number).fenced = true;
  unfenced[self()].clear();
}

// ---- bulk copies ----

static void check_map(const void *map, const TensorMapContents &m) {
  if ((uintptr_t)map % 64) stop(716, "a tensor map that is not at a multiple of 64");
  if (memcmp(m.magic, tensor_map_magic, sizeof m.magic)) stop(719, "a tensor map that cuTensorMapEncodeTiled did not make");
  if (m.rank != 2 || m.bytes != 2 || m.swizzle != 3 || !m.plain || m.box_columns * m.bytes != 128)
    stop(719, "bulk copies are modelled for two dimensions, 16-bit numbers, and rows of 128 bytes with the swizzle of 128");
}

void bring_box(uint32_t to, const void *map, int column, int row, uint32_t number) {
  Flight f{find(number), {}, to, column, row};
  if (!barriers[f.barrier].fenced) stop(719, "a bulk copy for the barrier at " + byte(number) + ", which barriers_ready did not make known");
  memcpy(&f.map, map, sizeof f.map);
  check_map(map, f.map);
  if (to % 1024) stop(716, "a tile with the swizzle of 128 bytes at an address that is no multiple of 1,024");
  for (uint32_t i = 0; i < f.map.box_rows * 128; i += 16) begin_write(to + i);
  flights.push_back(f);
}

static void land(const Flight &f) {
  Barrier &b = barriers[f.barrier];
  for (uint32_t r = 0; r < f.map.box_rows; r++)
    for (uint32_t c = 0; c < 128; c += 16) {
      const uint32_t number = swizzled(f.to + r * 128 + c);
      const int64_t row = (int64_t)f.row + r, column = (int64_t)f.column + c / 2;
      memset(at(number), 0, 16);
      if (row >= 0 && row < (int64_t)f.map.rows)
        for (int e = 0; e < 8; e++) { // a chunk may be in the tensor in part
          if (column + e < 0 || column + e >= (int64_t)f.map.columns) continue;
          const char *from = (const char *)f.map.address + row * f.map.stride + (column + e) * 2;
          access(from, 2, false);
          memcpy(at(number) + e * 2, from, 2);
        }
      end_write(number, (uint16_t)(MOST_THREADS + f.barrier), b.phases + 1, true);
    }
  b.next.at[MOST_THREADS + f.barrier] = b.phases + 1;
  b.bytes -= f.map.box_rows * 128;
  complete(b);
}

bool async_deliver() {
  if (!active) return false;
  for (size_t i = flights.size(); i-- > 0;) // in no order that anybody may count on
    if (!barriers[flights[i].barrier].waiters.empty()) {
      Flight f = flights[i];
      flights.erase(flights.begin() + i);
      land(f);
      return true;
    }
  return false;
}

// ---- products ----

struct Tile {
  uint32_t start, group; // bytes from one group of eight rows to the next
  uint32_t chunk(int row, int half) const { return swizzled(start + row / 8 * group + row % 8 * 128 + half * 16); }
};

static Tile decode(uint64_t d) {
  if (d & 0xc000c000c000ull) stop(719, "a matrix descriptor with bits that mean nothing");
  Tile t{(uint32_t)(d & 0x3fff) << 4, (uint32_t)(d >> 32 & 0x3fff) << 4};
  if (d >> 62 != 1 || (d >> 46 & 0xffff) || (d >> 16 & 0x3fff) > 1 || t.group % 1024)
    stop(719, "a matrix descriptor of another kind than tiles at multiples of 1,024 bytes with the swizzle of 128 is not modelled");
  if (t.start & 0x380) stop(719, "a tile that begins within a pattern of the swizzle, with base offset 0");
  return t;
}

static int columns(const Op &op) { return op.registers * 2; }

// Calls f with every 16 bytes that the product of a warp reads.
template <class F> static void each_chunk(const Op &op, unsigned warp, F f) {
  const Tile a = decode(op.a), b = decode(op.b);
  for (int half = 0; half < 2; half++) {
    for (int r = 0; r < 16; r++) f(a.chunk((int)(warp % 4) * 16 + r, half));
    for (int r = 0; r < columns(op); r++) f(b.chunk(r, half));
  }
}

void product_fence() { lanes[self()].fence = true; }
void product_commit() { lanes[self()].committed++; }

// What a warp's first thread looks at for all.
static void check_issue(const Op &op) {
  const unsigned warp = self() / 32;
  Group &g = groups[warp / 4];
  size_t &mine = g.by[warp % 4];
  if (mine < g.issued.size() && g.issued[mine] != std::make_pair(op.a, op.b)) stop(719, "warps of a warpgroup multiply different tiles");
  if (mine == g.issued.size()) g.issued.push_back({op.a, op.b});
  mine++;
  const Clock &now = clocks[self()];
  each_chunk(op, warp, [&](uint32_t number) {
    const Granule &c = granule(number);
    if (c.flying) stop(719, byte(number) + " multiplied while a copy to it is under way");
    if (c.writer == NOBODY) stop(719, byte(number) + " multiplied, which nobody wrote");
    if (!covered(now, c.writer, c.written_at)) stop(719, byte(number) + " multiplied without waiting for what was written there");
    if (!c.fenced) stop(719, byte(number) + " multiplied, which its writer did not make known to the async proxy");
  });
}

void product_issue(float *d, int registers, uint64_t a, uint64_t b, bool brain) {
  if (!active) stop(719, "products in a block without barriers are not modelled");
  Lane &l = lanes[self()];
  if (!l.fence) stop(719, "a product without products_fence since its sums were last waited for");
  Op op{a, b, registers, brain, l.committed + 1, version};
  if (self() % 32 == 0) check_issue(op);
  if (!l.sums) {
    l.sums = d;
    l.hidden.assign(d, d + registers);
    for (int i = 0; i < registers; i++) d[i] = NAN;
  } else if (l.sums != d)
    stop(719, "products with other sums, while some are under way, are not modelled");
  l.ops.push_back(op);
}

// Eight numbers of 16 bits; whether all are finite.
static bool numbers(const char *from, bool brain, float (&to)[8]) {
  bool finite = true;
  for (int e = 0; e < 8; e++) {
    uint16_t bits;
    memcpy(&bits, from + e * 2, 2);
    to[e] = brain ? float_of_bits((uint32_t)bits << 16) : of_half(bits);
    finite &= std::isfinite(to[e]);
  }
  return finite;
}

static float a_tile[16][16], b_tile[16][256], sum_tile[16][256];

// Reads the tiles of a warp's product. What is zero from some column on is left out where that makes no difference; returns
// the columns to do.
static int load(const Op &op, unsigned warp) {
  const Tile a = decode(op.a), b = decode(op.b);
  bool finite = true;
  int width = 0;
  float n[8];
  for (int half = 0; half < 2; half++) {
    for (int r = 0; r < 16; r++) {
      finite &= numbers(at(a.chunk((int)(warp % 4) * 16 + r, half)), op.brain, n);
      memcpy(&a_tile[r][half * 8], n, sizeof n);
    }
    for (int r = 0; r < columns(op); r++) {
      finite &= numbers(at(b.chunk(r, half)), op.brain, n);
      for (int e = 0; e < 8; e++) {
        b_tile[half * 8 + e][r] = n[e];
        if (n[e] != 0 && r >= width) width = r + 1;
      }
    }
  }
  return finite ? width : columns(op);
}

static void multiply_tiles(const Op &op, unsigned warp) {
  each_chunk(op, warp, [&](uint32_t number) {
    Granule &c = granule(number);
    if (c.flying || c.version > op.version) stop(719, byte(number) + " refilled while a product that reads it is under way");
    c.read_at[warp] = clocks[warp * 32].at[warp * 32];
  });
  const int width = load(op, warp);
  auto each_sum = [&](auto f) {
    for (unsigned l = 0; l < 32; l++)
      for (int i = 0; i < op.registers; i++)
        f(lanes[warp * 32 + l].hidden[i], sum_tile[l / 4 + i / 2 % 2 * 8][i / 4 * 8 + l % 4 * 2 + i % 2]);
  };
  each_sum([](float &mine, float &tile) { tile = mine; });
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++)
      for (int j = 0; j < width; j++) sum_tile[i][j] += a_tile[i][k] * b_tile[k][j];
  each_sum([](float &mine, float &tile) { mine = tile; });
}

// The last thread of a warp to wait does the work of all. That the products are done is known to the whole warp.
static void finish_products(unsigned warp, unsigned newest_left) {
  Lane &first = lanes[warp * 32];
  for (unsigned l = 1; l < 32; l++) {
    Lane &other = lanes[warp * 32 + l];
    bool same = other.ops.size() == first.ops.size() && other.committed == first.committed;
    for (size_t i = 0; same && i < first.ops.size(); i++) same = !(other.ops[i] != first.ops[i]);
    if (!same) stop(719, "threads of a warp wait for different products");
    clocks[warp * 32].join(clocks[warp * 32 + l], components());
  }
  for (unsigned l = 1; l < 32; l++) clocks[warp * 32 + l].join(clocks[warp * 32], components());
  size_t done = 0;
  while (done < first.ops.size() && first.ops[done].group + newest_left <= first.committed) multiply_tiles(first.ops[done++], warp);
  for (unsigned l = 0; l < 32; l++) {
    Lane &lane = lanes[warp * 32 + l];
    lane.ops.erase(lane.ops.begin(), lane.ops.begin() + done);
    lane.fence = false;
    if (!lane.ops.empty() || !lane.sums) continue;
    memcpy(lane.sums, lane.hidden.data(), lane.hidden.size() * sizeof(float));
    lane.sums = nullptr;
  }
}

void product_wait(unsigned newest_left) {
  const unsigned warp = self() / 32;
  if (!active) return;
  if (++warp_waits[warp] < 32) return park(FOR_PRODUCTS);
  warp_waits[warp] = 0;
  finish_products(warp, newest_left);
  for (unsigned t = warp * 32; t < warp * 32 + 32; t++)
    if (t != self()) wake(t);
}

void async_end() {
  if (!active) return;
  if (!flights.empty()) stop(719, "the block ends while a bulk copy is under way");
  for (unsigned t = 0; t < threads; t++)
    if (!lanes[t].ops.empty()) stop(719, "the block ends while products of thread " + std::to_string(t) + " are under way");
}

} // namespace emulate
