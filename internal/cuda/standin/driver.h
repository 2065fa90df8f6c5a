// The parts of the stand-in driver. One lock is held through every call, so nothing below knows of threads.
#pragma once

#include <cuda.h>

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "block.h"
#include "standin.h"

namespace standin {

// ---- report.cc: findings, faults, counts ----

void report(const std::string &text);
extern std::mutex lock;
bool executing(); // whether this thread is inside a call

// An entry into the interface: takes the lock, counts the call, and says what it returns if it must not go on.
struct Call {
  enum Needs { NOTHING, INITIALISED, CONTEXT };
  Call(const char *name, Needs needs);
  ~Call();
  CUresult refused;
  bool injected = false; // refused because a test asked for it
  bool dropped = false;  // a mutant: succeeds without doing anything
  bool swapped = false;  // a mutant: acts on another stream
  const char *name;
  uint64_t number;
};
extern Call *running_call;

// Begins an entry of the interface.
#define ENTER(needs)                   \
  Call call(plain(__func__), needs); \
  if (call.refused || call.dropped) return call.refused

// The name of the interface for that of the symbol: cuMemAlloc for cuMemAlloc_v2.
const char *plain(const char *symbol);

void count(const char *name);             // for euryaleStandinCalls
CUresult injected_at(const char *name); // the code of the fault, if it is this call's turn
bool ruins(CUresult code);

// ---- order.cc: what is ordered after what ----

// Clock has for each stream the time of its latest work that is known to be done.
typedef std::vector<uint64_t> Clock;
void join(Clock &a, const Clock &b);

struct Access {
  uint32_t stream;
  uint64_t time;
  const std::string *name; // from keep; null if nobody
  uint64_t call;
  std::string text() const;
};

enum Mode { READ, WRITE };

// Shadow has the last accesses to each byte of a range.
class Shadow {
public:
  Shadow(uint64_t begin, uint64_t end, bool written);
  // Reports what it is not ordered after. now is the clock of the access.
  void access(uint64_t begin, uint64_t end, Mode mode, const Access &by, const Clock &now);
  // The end of a life: reports accesses that the clock does not cover.
  void check_all(const std::string &deed, const Clock &now) const;
  void renew(uint64_t begin, uint64_t end, int state, const Access &by, const Clock &now);

private:
  struct Cell {
    uint64_t end;
    bool written, usable;
    Access writer;
    std::vector<Access> readers;
  };
  std::map<uint64_t, Cell> cells;
  void split(uint64_t at);
};

bool covers(const Clock &now, const Access &a);
const std::string *keep(const std::string &text);

// ---- queue.cc: streams, events, the executor ----

struct Stream;
struct Capture;

struct Op {
  Access id;
  Stream *stream;
  Clock clock;
  std::vector<std::shared_ptr<Op>> after;
  std::function<CUresult(Op &)> work; // empty for marks
  double cost = 1;                    // microseconds of the pretended clock
  double finished_at = 0;
  bool done = false;
};
typedef std::shared_ptr<Op> OpRef;

struct Stream {
  uint32_t number;
  unsigned flags;
  int priority = 0;
  std::deque<OpRef> queue;
  OpRef last;
  Clock clock;
  uint64_t time = 0;
  bool alive = true, stalled = false, exempt = false;
  std::shared_ptr<Capture> capture;
  std::vector<int> frontier; // nodes of the capture that the next one follows
};

struct Event {
  unsigned flags;
  bool alive = true;
  OpRef recorded;
  std::shared_ptr<Capture> capture;
  std::vector<int> frontier;
  bool exempt = false;
};

typedef std::function<CUresult(Op &)> Work;

// What a stream is given, or a graph keeps to give to streams: start is called whenever it is.
struct Task {
  std::string name;
  double cost;
  std::function<Work()> start; // null for marks
};

OpRef submit(Stream *s, const Task &task, const std::vector<OpRef> &after = {});
CUresult enqueue(Stream *s, const Task &task); // submits, or adds to the graph that is captured
CUresult finish(const OpRef &op, bool host_waits = true); // runs all it needs
CUresult finish_all(bool host_waits = true);
void step_towards(const OpRef &op); // one piece of work
void background();                  // what the schedule runs after a call
bool blocks_backwards();            // the order of a kernel's blocks in this schedule

void drop_all();

Stream *stream_of(CUstream handle, CUresult &error);
Event *event_of(CUevent handle, CUresult &error);
Stream *new_stream(unsigned flags, int priority);

// ---- memory.cc ----

struct Allocation {
  CUdeviceptr base;
  size_t size;
  bool alive, exempt;
  uint64_t call;
  Shadow shadow;
};

struct HostRange {
  uintptr_t base;
  size_t size;
  unsigned flags;
  bool ours, exempt;
  Shadow shadow;
};

// A copy in flight and the host memory it uses.
struct Transfer {
  uintptr_t begin, end;
  bool to_host;
  const std::string *name;
  uint64_t call;
};

// Bytes of an allocation that a kernel read, before it wrote them, or wrote.
struct Touch {
  Allocation *allocation;
  size_t begin, end;
  Mode mode;
};

Allocation *allocation_at(uint64_t ptr); // alive or not; null if there never was one
HostRange *host_range_at(uintptr_t p);
CUresult check_device_range(CUdeviceptr ptr, size_t n, const char *deed);
char *host_view(CUdeviceptr ptr);
bool is_device(uint64_t ptr);
CUresult allocate(CUdeviceptr *ptr, size_t n);
CUresult release(CUdeviceptr ptr);
void release_all_memory();
void device_access(Op &op, CUdeviceptr ptr, size_t n, Mode mode);
void host_access(Op &op, const void *p, size_t n, Mode mode);
std::vector<Touch> kernel_touches(); // of the kernel that ran last, which it forgets
CUresult kernel_accesses(Op &op, const std::vector<Touch> &touches);
std::list<Transfer>::iterator protect(const void *p, size_t n, bool to_host, const std::string &name);
void unprotect(std::list<Transfer>::iterator t);
void open_pages(const void *p, size_t n); // for the driver's own access; the next protect or unprotect closes them
CUresult add_host_range(void *p, size_t n, unsigned flags, bool ours);
CUresult allocate_host(void **p, size_t n, unsigned flags);
CUresult release_host(void *p, bool ours);
void exempt_memory(uint64_t p);             // its release failed by a fault
size_t live_memory(std::string *leaks);     // adds what there is to the text
void install_fault_handler();

// ---- recall.cc ----

struct Launch {
  const emulate::Kernel *kernel;
  emulate::Index grid;
  unsigned shared;
  std::vector<char> params; // with addresses of the device
};
CUresult run_kernel(Op &op, const Launch &launch);

// ---- api_context.cc ----

struct Function {
  const emulate::Kernel *kernel;
  int max_dynamic_shared = 48 * 1024;
};

struct Module {
  std::string ptx;
  bool alive = true, exempt = false;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

// All that a test can bring back to how it was.
struct State {
  bool initialised = false;
  int primary = 0; // references
  unsigned primary_flags = 0;
  uint64_t generation = 1; // of the primary context
  CUresult ruined = CUDA_SUCCESS;
  Clock host;
  std::vector<std::unique_ptr<Stream>> streams; // 0 is the legacy default stream, 1 the per-thread one
  std::vector<std::unique_ptr<Event>> events;
  std::vector<std::unique_ptr<Module>> modules;
  double now = 0;
  size_t capacity, taken = 0, largest = 0, live = 0, peak = 0, host_bytes = 0;
  bool struck = false; // a fault was injected: releases may then count on their own waiting
  size_t told_free = 0, told_total = 0;
};
extern State state;

CUresult context_error(); // of the calling thread
void end_context();       // reports leaks
size_t live_objects(std::string *leaks);

// ---- api_graph.cc ----

size_t live_graphs();
void forget_graphs();
bool capturing();
CUresult invalidate_captures(); // a call that cannot be captured; returns what it returns

} // namespace standin
