// Streams and events.
#include "driver.h"

using namespace standin;

#define NOT_NULL(p) \
  if (!(p)) return CUDA_ERROR_INVALID_VALUE
#define STREAM(s, handle)                   \
  CUresult s##_error;                       \
  Stream *s = stream_of(handle, s##_error); \
  if (!s) return s##_error
#define EVENT(e, handle)                  \
  CUresult e##_error;                     \
  Event *e = event_of(handle, e##_error); \
  if (!e) return e##_error

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority) {
  ENTER(Call::CONTEXT);
  NOT_NULL(stream && flags <= CU_STREAM_NON_BLOCKING);
  *stream = (CUstream)new_stream(flags, priority < -5 ? -5 : priority > 0 ? 0 : priority);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
  ENTER(Call::CONTEXT);
  NOT_NULL(stream && flags <= CU_STREAM_NON_BLOCKING);
  *stream = (CUstream)new_stream(flags, 0);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream) {
  Call call("cuStreamDestroy", Call::CONTEXT);
  if (call.dropped) return CUDA_SUCCESS;
  if (call.refused) {
    for (auto &s : state.streams)
      if (call.injected && (CUstream)s.get() == stream) s->exempt = true;
    return call.refused;
  }
  STREAM(s, stream);
  if (s->number < 2) return CUDA_ERROR_INVALID_HANDLE;
  s->alive = false; // its work still runs
  return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream stream, int *priority) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  NOT_NULL(priority);
  *priority = s->priority;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream stream, unsigned int *flags) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  NOT_NULL(flags);
  *flags = s->flags;
  return CUDA_SUCCESS;
}

// What a query answers is what is so before it: the work that it lets run is seen by the next.
static CUresult query(const OpRef &last) {
  if (state.ruined) return state.ruined;
  if (!last) return CUDA_SUCCESS;
  if (last->done) {
    join(state.host, last->clock);
    return CUDA_SUCCESS;
  }
  step_towards(last);
  return state.ruined ? state.ruined : CUDA_ERROR_NOT_READY;
}

CUresult cuStreamQuery(CUstream stream) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  if (s->capture) return invalidate_captures();
  return query(s->last);
}

CUresult cuStreamSynchronize(CUstream stream) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  if (s->capture) return invalidate_captures();
  if (s->number == 0) // the legacy stream's last work may be before that of the streams it waits for
    for (auto &other : state.streams)
      if (!(other->flags & CU_STREAM_NON_BLOCKING))
        if (CUresult r = finish(other->last)) return r;
  return finish(s->last);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  EVENT(e, event);
  NOT_NULL(flags <= 1);
  if (e->capture) { // the stream joins the capture
    if (s->capture && s->capture != e->capture) return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    s->capture = e->capture;
    s->frontier.insert(s->frontier.end(), e->frontier.begin(), e->frontier.end());
    return CUDA_SUCCESS;
  }
  if (s->capture) return e->recorded ? CUDA_ERROR_STREAM_CAPTURE_ISOLATION : CUDA_SUCCESS;
  if (e->recorded) submit(s, Task{"wait for an event", 0, nullptr}, {e->recorded});
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned int flags) {
  ENTER(Call::CONTEXT);
  NOT_NULL(event && flags < 8);
  if ((flags & CU_EVENT_INTERPROCESS) && !(flags & CU_EVENT_DISABLE_TIMING)) return CUDA_ERROR_INVALID_VALUE;
  state.events.push_back(std::make_unique<Event>());
  state.events.back()->flags = flags;
  *event = (CUevent)state.events.back().get();
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  Call call("cuEventDestroy", Call::CONTEXT);
  if (call.dropped) return CUDA_SUCCESS;
  if (call.refused) {
    for (auto &e : state.events)
      if (call.injected && (CUevent)e.get() == event) e->exempt = true;
    return call.refused;
  }
  EVENT(e, event);
  e->alive = false;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  ENTER(Call::CONTEXT);
  EVENT(e, event);
  STREAM(s, stream);
  if (s->capture) {
    e->capture = s->capture, e->frontier = s->frontier;
    return CUDA_SUCCESS;
  }
  e->capture = nullptr;
  e->recorded = submit(s, Task{"record of an event", 0, nullptr});
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
  ENTER(Call::CONTEXT);
  EVENT(e, event);
  if (e->capture) return CUDA_ERROR_CAPTURED_EVENT;
  return query(e->recorded);
}

CUresult cuEventSynchronize(CUevent event) {
  ENTER(Call::CONTEXT);
  EVENT(e, event);
  if (e->capture) return CUDA_ERROR_CAPTURED_EVENT;
  return finish(e->recorded);
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  ENTER(Call::CONTEXT);
  EVENT(a, start);
  EVENT(b, end);
  NOT_NULL(milliseconds);
  if (!a->recorded || !b->recorded || (a->flags | b->flags) & CU_EVENT_DISABLE_TIMING) return CUDA_ERROR_INVALID_HANDLE;
  if (!a->recorded->done || !b->recorded->done) return CUDA_ERROR_NOT_READY;
  *milliseconds = (float)((b->recorded->finished_at - a->recorded->finished_at) / 1000);
  return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn fn, void *data) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  NOT_NULL(fn);
  return enqueue(s, Task{"a host function", 1, [=]() -> Work {
                           return [=](Op &) {
                             fn(data);
                             return CUDA_SUCCESS;
                           };
                         }});
}

extern "C" void euryaleStandinStall(CUstream stream) {
  Call call("euryaleStandinStall", Call::CONTEXT);
  CUresult error;
  if (call.refused) return;
  if (Stream *s = stream_of(stream, error)) s->stalled = true;
}
