// Findings, faults that tests ask for, counts, and the settings.
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "driver.h"

namespace standin {

std::mutex lock;
Call *running_call;
static thread_local bool inside;

static std::vector<std::string> findings;
static std::map<std::string, uint64_t> counts;
static uint64_t total;
static struct {
  std::string name;
  uint64_t left = 0; // calls until it strikes, that one included; 0: none
  CUresult code;
  bool persistent;
} fault;

static struct {
  std::string name;
  uint64_t left = 0;
  int kind;
  bool every;
} mutant;

bool executing() { return inside; }

void report(const std::string &text) {
  if (findings.size() < 200 && std::find(findings.begin(), findings.end(), text) == findings.end()) findings.push_back(text);
}

const char *plain(const char *symbol) {
  size_t n = strlen(symbol);
  if (n < 3 || symbol[n - 3] != '_' || symbol[n - 2] != 'v') return symbol;
  return keep(std::string(symbol, n - 3))->c_str();
}

bool ruins(CUresult code) {
  return code == 700 || code == 702 || code == 710 || (code >= 714 && code <= 719);
}

void count(const char *name) { counts[name]++; }

// "execute" and the names of standin.h are no calls, and not counted among them.
CUresult injected_at(const char *name) {
  counts[name]++;
  bool call = name[0] == 'c';
  total += call;
  if (!fault.left || !(fault.name.empty() ? call : fault.name == name)) return CUDA_SUCCESS;
  if (fault.left > 1) {
    fault.left--;
    return CUDA_SUCCESS;
  }
  if (!fault.persistent) fault.left = 0;
  state.struck = true;
  if (ruins(fault.code) && !state.ruined) {
    state.ruined = fault.code;
    drop_all();
  }
  return fault.code;
}

Call::Call(const char *n, Needs needs) : name(n) {
  if (inside) { // from a host function in a stream
    refused = CUDA_ERROR_NOT_PERMITTED;
    name = nullptr;
    return;
  }
  lock.lock();
  inside = true;
  running_call = this;
  refused = injected_at(name);
  number = total;
  injected = refused != CUDA_SUCCESS;
  if (mutant.left && mutant.name == name && --mutant.left == 0) {
    dropped = mutant.kind == EURYALE_DROP, swapped = mutant.kind == EURYALE_SWAP;
    if (mutant.every) mutant.left = 1;
  }
  if (injected || dropped) return;
  if (needs >= INITIALISED && !state.initialised)
    refused = CUDA_ERROR_NOT_INITIALIZED;
  else if (needs == CONTEXT)
    refused = context_error();
}

Call::~Call() {
  if (!name) return;
  if (!state.ruined) background();
  inside = false;
  lock.unlock();
}

} // namespace standin

using namespace standin;

static uint64_t number_of(const char *text, uint64_t otherwise) { return text && *text ? strtoull(text, nullptr, 0) : otherwise; }

// The settings of the environment.
static void configure() {
  state.capacity = number_of(getenv("EURYALE_STANDIN_MEMORY"), 1ull << 30);
  const char *s = getenv("EURYALE_STANDIN_SCHEDULE");
  std::string schedule = s ? s : "lazy";
  static const char *kinds[] = {"lazy", "eager", "random", "biased"};
  for (int k = 0; k < 4; k++)
    if (schedule.compare(0, strlen(kinds[k]), kinds[k]) == 0) {
      size_t colon = schedule.find(':');
      return euryaleStandinSetSchedule(k, colon == std::string::npos ? 1 : number_of(schedule.c_str() + colon + 1, 1));
    }
  fprintf(stderr, "TEST STAND-IN: EURYALE_STANDIN_SCHEDULE=%s is none of lazy, eager, random:SEED, biased:SEED\n", s);
  exit(2);
}

CUresult cuInit(unsigned int flags) {
  ENTER(Call::NOTHING);
  const char *on = getenv("EURYALE_STANDIN");
  if (!on || strcmp(on, "1")) {
    fprintf(stderr, "TEST STAND-IN: this libcuda.so.1 is for Euryale's tests. It is no driver of a GPU.\n");
    return CUDA_ERROR_STUB_LIBRARY;
  }
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  if (!state.initialised) configure();
  state.initialised = true;
  return CUDA_SUCCESS;
}

namespace {
struct AtExit {
  ~AtExit() {
    if (!number_of(getenv("EURYALE_STANDIN_REPORT"), 0)) return;
    {
      Call call("the end of the process", Call::NOTHING);
      if (state.primary) end_context();
    }
    for (const std::string &f : findings) fprintf(stderr, "TEST STAND-IN: %s\n", f.c_str());
  }
} at_exit;
} // namespace

extern "C" {

void euryaleStandinReset(void) {
  std::lock_guard<std::mutex> hold(lock);
  bool initialised = state.initialised;
  uint64_t generation = state.generation + 1;
  drop_all();
  release_all_memory();
  forget_graphs();
  state = State{};
  state.initialised = initialised, state.generation = generation;
  findings.clear();
  counts.clear();
  total = 0;
  fault.left = mutant.left = 0;
  configure();
}

const char *euryaleStandinReport(void) {
  std::lock_guard<std::mutex> hold(lock);
  static std::string text;
  text.clear();
  for (const std::string &f : findings) text += f + "\n";
  return text.c_str();
}

void euryaleStandinClearReport(void) {
  std::lock_guard<std::mutex> hold(lock);
  findings.clear();
}

void euryaleStandinSetFault(const char *name, uint64_t n, int code, int persistent) {
  std::lock_guard<std::mutex> hold(lock);
  fault.name = name ? name : "", fault.left = n, fault.code = (CUresult)code, fault.persistent = persistent;
}

void euryaleStandinSetMutant(const char *name, uint64_t n, int kind, int every) {
  std::lock_guard<std::mutex> hold(lock);
  mutant.name = name, mutant.left = n, mutant.kind = kind, mutant.every = every;
}

uint64_t euryaleStandinCalls(const char *name) {
  std::lock_guard<std::mutex> hold(lock);
  return name && *name ? counts[name] : total;
}

void euryaleStandinSetMemory(size_t capacity, size_t taken, size_t largest) {
  std::lock_guard<std::mutex> hold(lock);
  state.capacity = capacity, state.taken = taken, state.largest = largest;
}

void euryaleStandinSetMemoryInfo(size_t free, size_t total) {
  std::lock_guard<std::mutex> hold(lock);
  state.told_free = free, state.told_total = total;
}

void euryaleStandinMemory(size_t *live, size_t *peak, size_t *host) {
  std::lock_guard<std::mutex> hold(lock);
  *live = state.live, *peak = state.peak, *host = state.host_bytes;
}

size_t euryaleStandinLive(void) {
  std::lock_guard<std::mutex> hold(lock);
  return live_objects(nullptr);
}

} // extern "C"
