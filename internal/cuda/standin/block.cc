// A block of threads as fibers on one host thread, and what its threads do together.
//
// A fiber runs until it meets others. The last to arrive does what the meeting is for, makes the others ready, and goes
// on. When nobody is ready and some have not ended, they wait in different places: the block diverged.
#include "block.h"

#include <sys/mman.h>
#include <unistd.h>

#include <deque>

#include "async.h"
#include "shared.h"

#ifdef UNPOISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(p, n) (void)0
#endif

namespace emulate {

Index thread_index, block_index, block_size, grid_size;

std::map<std::string, Kernel> &kernels() {
  static auto *all = new std::map<std::string, Kernel>; // work may still run when the process ends
  return *all;
}

Enrol::Enrol(const char *name, size_t param_bytes, unsigned threads, Body body) {
  kernels()[name] = Kernel{name, param_bytes, threads, body};
}

const unsigned MAX_THREADS = 1024;
const size_t STACK = 256 * 1024;

struct Copy {
  char *to;
  const char *from; // null: zeros
};

enum Meeting { NONE, BARRIER, WARP_BARRIER, SHUFFLE, MATRICES, MULTIPLY, PHASE, PRODUCTS };
static const char *meeting_names[] = {"nothing",       "block_sync",   "warp_sync",    "shuffle_xor",
                                      "load_matrices", "multiply_add", "barrier_wait", "products_wait"};

struct Fiber {
  void *stack_pointer;
  bool ended;
  Meeting waits;
  void *argument;                        // of the meeting
  std::vector<std::vector<Copy>> groups; // of asynchronous copies, the last one open
};

struct Warp {
  unsigned arrived;
  Meeting meeting;
};

static Fiber fibers[MAX_THREADS];
static uint16_t &current = progress.lane;
static Warp warps[MAX_THREADS / 32];
static std::deque<unsigned> ready;
static unsigned threads, barrier_arrived, ended;
static char *stacks;
static const Kernel *kernel;
static const void *params;
static Result result;
static bool running;
static void *main_stack;

// Saves where the caller is in *from and goes on at to. What the ABI asks of a callee to keep is on the stacks.
extern "C" void emulate_switch(void **from, void *to);
#if defined(__x86_64__)
asm(R"(
.text
.globl emulate_switch
.hidden emulate_switch
.type emulate_switch, @function
emulate_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulate_switch, .-emulate_switch
)");
#else
#error "the stand-in driver runs on x86-64: emulate_switch needs its lines for this processor"
#endif

static void resume(unsigned next) {
  unsigned from = current;
  if (next == from) return;
  current = next;
  thread_index.x = next;
  emulate_switch(&fibers[from].stack_pointer, fibers[next].stack_pointer);
}

// Somebody else's turn; returns when the caller is ready again and it is its turn.
static void rest() {
  while (ready.empty() && async_deliver()) {
  }
  if (ready.empty()) {
    std::string text = "threads of a block wait in different places:";
    int shown = 0;
    for (unsigned i = 0; i < threads && shown < 4; i++)
      if (i == 0 || fibers[i].ended != fibers[i - 1].ended || fibers[i].waits != fibers[i - 1].waits)
        text += " thread " + std::to_string(i) + (fibers[i].ended ? " has ended," : std::string(" in ") + meeting_names[fibers[i].waits] + ","), shown++;
    text.pop_back();
    stop(719, text + async_missing());
  }
  unsigned next = ready.front();
  ready.pop_front();
  resume(next);
}

// Back to run_block, for good.
[[noreturn]] static void leave() {
  void *unused;
  emulate_switch(&unused, main_stack);
  __builtin_unreachable();
}

[[noreturn]] void stop(int code, const std::string &message) {
  result.code = code;
  result.message = "kernel " + kernel->name + ", block " + std::to_string(block_index.x) + "," + std::to_string(block_index.y) + "," +
                   std::to_string(block_index.z) + ", thread " + std::to_string(current) + ": " + message;
  leave();
}

extern "C" const char __ehdr_start[] __attribute__((visibility("hidden"))), _end[] __attribute__((visibility("hidden")));

bool own_memory(uintptr_t p) {
  return p - (uintptr_t)stacks < MAX_THREADS * STACK || p - (uintptr_t)params < kernel->param_bytes ||
         (p >= (uintptr_t)__ehdr_start && p < (uintptr_t)_end);
}

bool stop_on_fault(uintptr_t address, bool write) {
  if (!running) return false;
  write |= touched.saving;
  touched.saving = false;
  char text[96];
  snprintf(text, sizeof text, "%s of address 0x%zx, where no memory is", write ? "write" : "read", (size_t)address);
  stop(700, text);
}

static void fiber_main() {
  kernel->body(params);
  fibers[current].ended = true;
  if (++ended == threads) {
    async_end();
    leave();
  }
  rest();
  __builtin_unreachable();
}

void park(Waiting what) {
  fibers[current].waits = what == FOR_BARRIER ? PHASE : PRODUCTS;
  rest();
}

void wake(unsigned thread) {
  fibers[thread].waits = NONE;
  ready.push_back(thread);
}

static void prepare(unsigned i) {
  void **top = (void **)(stacks + (i + 1) * STACK);
  *--top = nullptr; // where fiber_main would return to; also aligns the stack as a call does
  *--top = (void *)fiber_main;
  top -= 6; // the six registers
  fibers[i].stack_pointer = top;
  fibers[i].ended = false;
  fibers[i].waits = NONE;
  fibers[i].groups.assign(1, {});
}

// The caller's warp meets. True for the last to arrive, who does the work and then calls release.
static bool meet(Meeting what, void *argument) {
  Warp &w = warps[current / 32];
  if (w.arrived && w.meeting != what)
    stop(719, std::string("threads of a warp meet in different places: ") + meeting_names[what] + " and " + meeting_names[w.meeting]);
  w.meeting = what;
  Fiber &f = fibers[current];
  f.waits = what, f.argument = argument;
  unsigned first = current / 32 * 32, lanes = threads - first < 32 ? threads - first : 32;
  if (++w.arrived == lanes) return true;
  rest();
  return false;
}

static void release() {
  warps[current / 32].arrived = 0;
  unsigned first = current / 32 * 32;
  for (unsigned i = first; i < first + 32 && i < threads; i++) {
    fibers[i].waits = NONE;
    if (i != current) ready.push_back(i);
  }
}

static Result run_block(unsigned shared_bytes) {
  shared_start(shared_bytes);
  async_start(threads);
  ready.clear();
  for (Warp &w : warps) w = Warp{};
  barrier_arrived = ended = 0;
  for (unsigned i = 0; i < threads; i++) {
    prepare(i);
    if (i) ready.push_back(i);
  }
  current = 0, thread_index = Index{0, 0, 0};
  running = true;
  emulate_switch(&main_stack, fibers[0].stack_pointer);
  running = false;
  return result;
}

Result run(const Kernel &k, Index grid, unsigned shared_bytes, const void *p, bool backwards) {
  if (!stacks)
    stacks = (char *)mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  kernel = &k, params = p, threads = k.threads;
  grid_size = grid, block_size = Index{k.threads, 1, 1};
  result = Result{};
  uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks && !result.code; i++) {
    uint64_t b = backwards ? blocks - 1 - i : i;
    block_index = Index{(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
    run_block(shared_bytes);
  }
  if (result.code) ASAN_UNPOISON_MEMORY_REGION(stacks, MAX_THREADS * STACK); // frames that were left by stop
  return result;
}

} // namespace emulate

using namespace emulate;

char *shared_memory() { return shared_base; }

void block_sync() {
  fibers[current].waits = BARRIER;
  if (++barrier_arrived < threads) return rest();
  barrier_arrived = 0, progress.phase++;
  for (unsigned i = 0; i < threads; i++) {
    fibers[i].waits = NONE;
    if (i != current) ready.push_back(i);
  }
}

void warp_sync() {
  if (!meet(WARP_BARRIER, nullptr)) return;
  progress.warp_syncs[current / 32]++;
  release();
}

float shuffle_xor(float v, int mask) {
  struct Argument { float in; int mask; float out; } a{v, mask, 0};
  if (meet(SHUFFLE, &a)) {
    unsigned first = current / 32 * 32;
    for (unsigned i = first; i < first + 32 && i < threads; i++) {
      Argument *to = (Argument *)fibers[i].argument;
      unsigned from = first + ((i - first) ^ (to->mask & 31));
      to->out = from < threads ? ((Argument *)fibers[from].argument)->in : to->in;
    }
    release();
  }
  return a.out;
}

namespace emulate {

void access(const void *p, size_t n, bool write);

void matrices(uint32_t (&r)[4], const void *row, bool transposed) {
  struct Argument { uint32_t *r; const char *row; } a{r, (const char *)row};
  if ((uintptr_t)row & 15) misaligned(row, 16);
  if ((uintptr_t)row - (uintptr_t)shared_base >= MAX_SHARED) stop(717, "load_matrices from outside shared memory");
  shared_access((uintptr_t)row, 16, false, false);
  if (!meet(MATRICES, &a)) return;
  unsigned first = current / 32 * 32;
  if (threads - first < 32) stop(719, "load_matrices in a warp of fewer than 32 threads");
  for (unsigned m = 0; m < 4; m++)
    for (unsigned l = 0; l < 32; l++)
      for (unsigned h = 0; h < 2; h++) {
        unsigned i = l / 4, j = 2 * (l % 4) + h;
        if (transposed) std::swap(i, j);
        uint16_t v;
        memcpy(&v, ((Argument *)fibers[first + m * 8 + i].argument)->row + 2 * j, 2);
        memcpy((char *)&((Argument *)fibers[first + l].argument)->r[m] + 2 * h, &v, 2);
      }
  release();
}

static float number(uint32_t pair, int half, bool brain) {
  uint16_t bits = (uint16_t)(pair >> (16 * half));
  return brain ? float_of_bits((uint32_t)bits << 16) : of_half(bits);
}

// Fragments of m16n8k16 as the PTX manual draws them: with g = lane / 4 and t = lane % 4, a[i] has the row g + 8 (i % 2)
// and columns 2t, 2t+1 of half i / 2; b[i] the rows 2t, 2t+1 of half i and column g; d[i] row g + 8 (i / 2) and column
// 2t + i % 2.
void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bool brain) {
  struct Argument { float *d; const uint32_t *a; uint32_t b[2]; bool brain; } mine{d, a, {b0, b1}, brain};
  if (!meet(MULTIPLY, &mine)) return;
  unsigned first = current / 32 * 32;
  if (threads - first < 32) stop(719, "multiply_add in a warp of fewer than 32 threads");
  float am[16][16], bm[16][8], dm[16][8];
  for (unsigned l = 0; l < 32; l++) {
    const Argument &x = *(Argument *)fibers[first + l].argument;
    unsigned g = l / 4, t = l % 4;
    for (unsigned i = 0; i < 4; i++)
      for (int h = 0; h < 2; h++) am[g + 8 * (i % 2)][8 * (i / 2) + 2 * t + h] = number(x.a[i], h, brain);
    for (unsigned i = 0; i < 2; i++)
      for (int h = 0; h < 2; h++) bm[8 * i + 2 * t + h][g] = number(x.b[i], h, brain);
    for (unsigned i = 0; i < 4; i++) dm[g + 8 * (i / 2)][2 * t + i % 2] = x.d[i];
  }
  for (unsigned i = 0; i < 16; i++)
    for (unsigned k = 0; k < 16; k++)
      for (unsigned j = 0; j < 8; j++) dm[i][j] += am[i][k] * bm[k][j];
  for (unsigned l = 0; l < 32; l++)
    for (unsigned i = 0; i < 4; i++) ((Argument *)fibers[first + l].argument)->d[i] = dm[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2];
  release();
}

// Rounds to 11 bits, halves away from zero; what is left of the other bits in a number that was not rounded, tensor cores
// do not see.
uint32_t to_tf32(uint32_t bits) {
  if ((bits & 0x7fffffff) < 0x7f800000) bits += 0x1000;
  return bits & ~0x1fffu;
}

// Fragments of m16n8k8: a[i] has the row g + 8 (i % 2) and column t + 4 (i / 2), b[i] the row t + 4 i and column g; d is as
// that of m16n8k16.
void multiply_floats(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Argument { float *d; const uint32_t *a; uint32_t b[2]; } mine{d, a, {b0, b1}};
  if (!meet(MULTIPLY, &mine)) return;
  unsigned first = current / 32 * 32;
  if (threads - first < 32) stop(719, "multiply_add in a warp of fewer than 32 threads");
  auto of = [&](unsigned lane) -> const Argument & { return *(Argument *)fibers[first + lane].argument; };
  auto number = [](uint32_t bits) { return float_of_bits(bits & ~0x1fffu); };
  float dm[16][8];
  for (unsigned l = 0; l < 32; l++)
    for (unsigned i = 0; i < 4; i++) dm[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2] = of(l).d[i];
  for (unsigned i = 0; i < 16; i++)
    for (unsigned k = 0; k < 8; k++)
      for (unsigned j = 0; j < 8; j++) dm[i][j] += number(of(i % 8 * 4 + k % 4).a[i / 8 + k / 4 * 2]) * number(of(j * 4 + k % 4).b[k / 4]);
  for (unsigned l = 0; l < 32; l++)
    for (unsigned i = 0; i < 4; i++) of(l).d[i] = dm[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2];
  release();
}

void copy_async(void *to, const void *from, bool valid) {
  if ((uintptr_t)to & 15) misaligned(to, 16);
  if ((uintptr_t)from & 15) misaligned(from, 16);
  if ((uintptr_t)to - (uintptr_t)shared_base >= MAX_SHARED) stop(717, "copy16 to outside shared memory");
  shared_access((uintptr_t)to, 16, true, true);
  async_copy(to, false);
  fibers[current].groups.back().push_back(Copy{(char *)to, valid ? (const char *)from : nullptr});
}

void copy_close() { fibers[current].groups.push_back({}); }

// The bytes land as late as they may.
void copy_finish(int newest_left) {
  auto &groups = fibers[current].groups; // the last is open and no group yet
  while ((int)groups.size() - 1 > newest_left) {
    for (const Copy &c : groups.front()) {
      shared_access((uintptr_t)c.to, 16, true, false);
      if (c.from) {
        access(c.from, 16, false);
        memcpy(c.to, c.from, 16);
      } else
        memset(c.to, 0, 16);
      async_copy(c.to, true);
    }
    groups.erase(groups.begin());
  }
}

static float decode_half(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return std::copysign((float)fraction * 5.9604644775390625e-8f, float_of_bits(sign | 0x3f800000u)); // times 2^-24
  return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

float of_half(uint16_t bits) {
  static const std::vector<float> all = [] {
    std::vector<float> v(65536);
    for (unsigned i = 0; i < v.size(); i++) v[i] = decode_half((uint16_t)i);
    return v;
  }();
  return all[bits];
}

uint16_t half_of(float x) {
  uint32_t u = float_bits(x), sign = u >> 16 & 0x8000;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return 0x7fff; // the device's one not-a-number
  if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); // 65520 and above round to infinity
  if (u < 0x38800000u) { // below 2^-14 steps are of 2^-24; adding and taking away 0.5 rounds to them
    float r = float_of_bits(u) + 0.5f;
    return (uint16_t)(sign | (float_bits(r) - 0x3f000000u));
  }
  u += 0xfffu + (u >> 13 & 1);
  return (uint16_t)(sign | (u - 0x38000000u) >> 13);
}

} // namespace emulate
