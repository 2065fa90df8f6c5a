// Streams and events.
#include "contract.h"

static CUstream stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream s;
  MUST(cuStreamCreate(&s, flags));
  return s;
}

static CUevent event(unsigned flags = CU_EVENT_DISABLE_TIMING) {
  CUevent e;
  MUST(cuEventCreate(&e, flags));
  return e;
}

void streams(const Device &d) {
  CUstream s;
  expect("a stream with unknown flags", cuStreamCreate(&s, 0xff), {CUDA_ERROR_INVALID_VALUE});
  expect("a stream without a place", cuStreamCreate(nullptr, 0), {CUDA_ERROR_INVALID_VALUE});
  s = stream();
  unsigned flags = 99;
  expect("the flags of a stream", cuStreamGetFlags(s, &flags), {CUDA_SUCCESS});
  check("are those it was made with", flags == CU_STREAM_NON_BLOCKING);
  int least = -99, greatest = -99, priority = -99;
  expect("the range of priorities", cuCtxGetStreamPriorityRange(&least, &greatest), {CUDA_SUCCESS});
  check("lower numbers come first", greatest <= least);
  CUstream urgent;
  expect("a stream with a priority beyond the range", cuStreamCreateWithPriority(&urgent, CU_STREAM_NON_BLOCKING, greatest - 10), {CUDA_SUCCESS});
  MUST(cuStreamGetPriority(urgent, &priority));
  check("gets the nearest within", priority == greatest);
  expect("a stream is destroyed", cuStreamDestroy(urgent), {CUDA_SUCCESS});
  expect("a new stream is done", cuStreamQuery(s), {CUDA_SUCCESS});
  expect("waiting for it ends", cuStreamSynchronize(s), {CUDA_SUCCESS});
  expect("the default stream is done", cuStreamQuery(nullptr), {CUDA_SUCCESS});
  expect("its other name", cuStreamQuery(CU_STREAM_LEGACY), {CUDA_SUCCESS});

  MUST(spin(d, s));
  expect("a stream with work is not ready", cuStreamQuery(s), {CUDA_ERROR_NOT_READY});
  expect("waiting for it ends", cuStreamSynchronize(s), {CUDA_SUCCESS});
  expect("then it is ready", cuStreamQuery(s), {CUDA_SUCCESS});

  CUdeviceptr p;
  MUST(cuMemAlloc(&p, 4096));
  MUST(launch(d.fill, Params{p, 1000, 1}, s));
  MUST(launch(d.add, Params{p, 1000, 2}, s));
  MUST(launch(d.add, Params{p, 1000, 4}, s));
  check("work in a stream runs in order", first_number(p) == 7);

  // What is not said to be ordered is not.
  MUST(spin(d, nullptr));
  MUST(launch(d.fill, Params{p, 1000, 11}, s));
  expect("a non-blocking stream", cuStreamSynchronize(s), {CUDA_SUCCESS});
  expect("does not wait for the default stream", cuStreamQuery(nullptr), {CUDA_ERROR_NOT_READY});
  MUST(cuCtxSynchronize());

  // The legacy default stream waits for all blocking streams, and they for it.
  CUstream blocking = stream(CU_STREAM_DEFAULT);
  MUST(spin(d, nullptr));
  MUST(launch(d.fill, Params{p, 1000, 12}, blocking));
  expect("a blocking stream", cuStreamSynchronize(blocking), {CUDA_SUCCESS});
  expect("waits for the default stream", cuStreamQuery(nullptr), {CUDA_SUCCESS});
  MUST(spin(d, blocking));
  MUST(launch(d.fill, Params{p, 1000, 13}, nullptr));
  expect("the default stream", cuStreamSynchronize(nullptr), {CUDA_SUCCESS});
  expect("waits for a blocking stream", cuStreamQuery(blocking), {CUDA_SUCCESS});
  MUST(spin(d, blocking));
  MUST(launch(d.fill, Params{p, 1000, 14}, blocking));
  unsigned v = 0;
  MUST(cuMemcpyDtoH(&v, p, 4));
  check("a copy without a stream comes after blocking streams", v == 14);

  CUstream gone = stream();
  MUST(spin(d, gone));
  MUST(launch(d.fill, Params{p, 1000, 15}, gone));
  expect("a stream with work is destroyed", cuStreamDestroy(gone), {CUDA_SUCCESS});
  check("its work is done all the same", first_number(p) == 15);

  static int order;
  order = 0;
  MUST(spin(d, s));
  expect("a function of the host in a stream", cuLaunchHostFunc(s, [](void *n) { order = order * 10 + *(int *)n; }, new int(1)), {CUDA_SUCCESS});
  MUST(cuLaunchHostFunc(s, [](void *n) { order = order * 10 + *(int *)n; }, new int(2)));
  MUST(cuStreamSynchronize(s));
  check("host functions run in the order of the stream", order == 12);
  MUST(cuStreamDestroy(s));
  MUST(cuStreamDestroy(blocking));
  MUST(cuMemFree(p));
}

static void timing(const Device &d, CUstream s) {
  float ms = -1;
  CUevent a = event(CU_EVENT_DEFAULT), b = event(CU_EVENT_DEFAULT), untimed = event();
  expect("the time between events that were not recorded", cuEventElapsedTime(&ms, a, b), {CUDA_ERROR_INVALID_HANDLE});
  MUST(cuEventRecord(a, s));
  MUST(spin(d, s));
  MUST(cuEventRecord(b, s));
  MUST(cuEventRecord(untimed, s));
  expect("the time until an event that is not reached", cuEventElapsedTime(&ms, a, b), {CUDA_ERROR_NOT_READY});
  MUST(cuStreamSynchronize(s));
  expect("the time between two events", cuEventElapsedTime(&ms, a, b), {CUDA_SUCCESS});
  check("is not nothing", ms > 0);
  expect("the time from an event made without", cuEventElapsedTime(&ms, untimed, b), {CUDA_ERROR_INVALID_HANDLE});
  for (CUevent e : {a, b, untimed}) MUST(cuEventDestroy(e));
}

void events(const Device &d) {
  CUevent e;
  CUstream s = stream(), t = stream();
  expect("an event with unknown flags", cuEventCreate(&e, 0xff), {CUDA_ERROR_INVALID_VALUE});
  expect("an event for other processes with timing", cuEventCreate(&e, CU_EVENT_INTERPROCESS), {CUDA_ERROR_INVALID_VALUE});
  expect("an event without a place", cuEventCreate(nullptr, 0), {CUDA_ERROR_INVALID_VALUE});
  e = event();
  expect("an event that was not recorded is reached", cuEventQuery(e), {CUDA_SUCCESS});
  expect("waiting for it ends", cuEventSynchronize(e), {CUDA_SUCCESS});
  expect("a stream can wait for it", cuStreamWaitEvent(t, e, 0), {CUDA_SUCCESS});
  expect("and waits for nothing", cuStreamQuery(t), {CUDA_SUCCESS});
  expect("no event is not queried", cuEventQuery(nullptr), {CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE});
  expect("no event is not recorded", cuEventRecord(nullptr, s), {CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE});
  expect("no event is not waited for", cuStreamWaitEvent(s, nullptr, 0), {CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE});

  CUdeviceptr p;
  MUST(cuMemAlloc(&p, 4096));
  MUST(spin(d, s));
  MUST(launch(d.fill, Params{p, 1000, 1}, s));
  MUST(cuEventRecord(e, s));
  expect("an event behind work is not reached", cuEventQuery(e), {CUDA_ERROR_NOT_READY});
  MUST(cuStreamWaitEvent(t, e, 0));
  MUST(launch(d.add, Params{p, 1000, 1}, t));
  expect("a stream that waits for it is not ready", cuStreamQuery(t), {CUDA_ERROR_NOT_READY});
  MUST(cuStreamSynchronize(t));
  expect("when it is, the event is reached", cuEventQuery(e), {CUDA_SUCCESS});
  check("work of two streams ran in the order of the event", first_number(p) == 2);

  // A wait is for the record it saw, whatever is recorded later; and a record replaces the one before.
  MUST(launch(d.fill, Params{p, 1000, 5}, s));
  MUST(cuEventRecord(e, s));
  MUST(cuStreamWaitEvent(t, e, 0));
  MUST(spin(d, s));
  MUST(cuEventRecord(e, s));
  expect("a wait for the first record of an event", cuStreamSynchronize(t), {CUDA_SUCCESS});
  expect("is not one for the second", cuEventQuery(e), {CUDA_ERROR_NOT_READY});
  expect("waiting for the event is for the second", cuEventSynchronize(e), {CUDA_SUCCESS});
  expect("so its stream is done", cuStreamQuery(s), {CUDA_SUCCESS});
  MUST(spin(d, s));
  expect("an event is reached whatever its stream does next", cuEventQuery(e), {CUDA_SUCCESS});
  MUST(cuCtxSynchronize());

  // An event can be recorded in any stream, and destroyed while others wait.
  MUST(spin(d, t));
  MUST(launch(d.fill, Params{p, 1000, 8}, t));
  MUST(cuEventRecord(e, t));
  MUST(cuStreamWaitEvent(s, e, 0));
  expect("an event that is waited for is destroyed", cuEventDestroy(e), {CUDA_SUCCESS});
  MUST(launch(d.add, Params{p, 1000, 1}, s));
  MUST(cuStreamSynchronize(s));
  check("the wait is kept", first_number(p) == 9);
  timing(d, s);
  MUST(cuMemFree(p));
  MUST(cuStreamDestroy(s));
  MUST(cuStreamDestroy(t));
}
