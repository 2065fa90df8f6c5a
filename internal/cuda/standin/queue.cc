// Streams are queues; work runs when somebody waits for it, or when the schedule says so, always on the calling thread.
#include <algorithm>

#include "driver.h"

namespace standin {

State state;

// The schedule of work nobody waits for.
static int schedule;
static uint64_t seed, dice;

extern "C" void euryaleStandinSetSchedule(int kind, uint64_t s) {
  schedule = kind, seed = s, dice = s * 2654435769u + 88172645463325252ull;
}

static uint64_t roll() { // xorshift64
  dice ^= dice << 13;
  dice ^= dice >> 7;
  dice ^= dice << 17;
  return dice;
}

bool blocks_backwards() { return schedule >= EURYALE_RANDOM && seed & 1; }

Stream *new_stream(unsigned flags, int priority) {
  state.streams.push_back(std::make_unique<Stream>());
  Stream *s = state.streams.back().get();
  s->number = state.streams.size() - 1, s->flags = flags, s->priority = priority;
  return s;
}

Stream *stream_of(CUstream handle, CUresult &error) {
  error = CUDA_SUCCESS;
  if (running_call->swapped) { // the first other one
    running_call->swapped = false;
    for (auto &s : state.streams)
      if (s->number >= 2 && s->alive && !s->exempt && (CUstream)s.get() != handle) return s.get();
  }
  if (handle == nullptr || handle == CU_STREAM_LEGACY) return state.streams[0].get();
  if (handle == CU_STREAM_PER_THREAD) return state.streams[1].get();
  for (auto &s : state.streams)
    if ((CUstream)s.get() == handle) {
      if (s->alive) return s.get();
      report(std::string(running_call->name) + " on stream " + std::to_string(s->number) + ", which was destroyed");
      break;
    }
  error = CUDA_ERROR_INVALID_HANDLE;
  return nullptr;
}

Event *event_of(CUevent handle, CUresult &error) {
  error = CUDA_SUCCESS;
  for (auto &e : state.events)
    if ((CUevent)e.get() == handle) {
      if (e->alive) return e.get();
      report(std::string(running_call->name) + " on an event that was destroyed");
      break;
    }
  error = CUDA_ERROR_INVALID_HANDLE;
  return nullptr;
}

OpRef submit(Stream *s, const Task &task, const std::vector<OpRef> &after) {
  auto op = std::make_shared<Op>();
  op->stream = s, op->cost = task.cost, op->after = after;
  if (task.start) op->work = task.start();
  // The legacy default stream waits for all blocking streams, and they for it.
  Stream *legacy = state.streams[0].get();
  if (s == legacy) {
    for (auto &other : state.streams)
      if (other.get() != s && !(other->flags & CU_STREAM_NON_BLOCKING) && other->last) op->after.push_back(other->last);
  } else if (!(s->flags & CU_STREAM_NON_BLOCKING) && legacy->last)
    op->after.push_back(legacy->last);

  join(s->clock, state.host);
  for (const OpRef &a : op->after) join(s->clock, a->clock);
  if (s->clock.size() <= s->number) s->clock.resize(s->number + 1);
  op->id = Access{s->number, s->clock[s->number] = ++s->time, keep(task.name), running_call->number};
  op->clock = s->clock;
  s->queue.push_back(op);
  s->last = op;
  return op;
}

static bool can_run(const Stream &s) {
  if (s.queue.empty() || s.stalled) return false;
  for (const OpRef &a : s.queue.front()->after)
    if (!a->done) return false;
  return true;
}

void drop_all() {
  for (auto &s : state.streams) {
    for (OpRef &op : s->queue) op->done = true;
    s->queue.clear();
  }
}

// Runs the first of a stream's queue.
static void run_front(Stream &s) {
  OpRef op = s.queue.front();
  CUresult code = op->work ? injected_at("execute") : CUDA_SUCCESS;
  if (!code && op->work) code = op->work(*op);
  op->finished_at = state.now += op->cost;
  op->done = true;
  op->work = nullptr; // with what it holds
  op->after.clear();
  if (!s.queue.empty()) s.queue.pop_front();
  if (code && !state.ruined) {
    state.ruined = code;
    drop_all();
  }
}

// The op whose turn it is on the way to op, or null if there is none that can ever run.
static Stream *next_towards(const OpRef &op) {
  OpRef want = op;
  for (;;) {
    if (want->stream->stalled || want->stream->queue.empty()) return nullptr;
    const OpRef &front = want->stream->queue.front();
    const OpRef *missing = nullptr;
    for (const OpRef &a : front->after)
      if (!a->done) missing = &a;
    if (!missing) return want->stream;
    want = *missing;
  }
}

void step_towards(const OpRef &op) {
  if (op->done) return;
  if (Stream *s = next_towards(op)) run_front(*s);
}

CUresult finish(const OpRef &op, bool host_waits) {
  while (op && !op->done && !state.ruined) {
    Stream *s = next_towards(op);
    if (!s) {
      report(std::string(running_call->name) + " waits for " + op->id.text() + ", which can never run");
      state.ruined = CUDA_ERROR_LAUNCH_TIMEOUT;
      drop_all();
      break;
    }
    run_front(*s);
  }
  if (state.ruined) return state.ruined;
  if (op && host_waits) join(state.host, op->clock);
  return CUDA_SUCCESS;
}

CUresult finish_all(bool host_waits) {
  for (auto &s : state.streams)
    if (CUresult r = finish(s->last, host_waits)) return r;
  return state.ruined;
}

void background() {
  if (schedule == EURYALE_LAZY) return;
  for (;;) {
    std::vector<Stream *> able;
    for (auto &s : state.streams)
      if (can_run(*s)) able.push_back(s.get());
    if (schedule == EURYALE_BIASED) // a stream's preference is a bit of a hash of seed and number
      able.erase(std::remove_if(able.begin(), able.end(), [](Stream *s) { return (seed + 1) * (s->number + 7) * 2654435761u >> 13 & 1; }), able.end());
    if (able.empty() || (schedule >= EURYALE_RANDOM && roll() % 3 == 0)) return;
    run_front(*able[schedule == EURYALE_EAGER ? 0 : roll() % able.size()]);
  }
}

} // namespace standin
