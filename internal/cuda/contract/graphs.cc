// Capture of streams, and graphs.
#include "contract.h"

static void refusals(CUstream s) {
  CUgraph g = (CUgraph)1;
  expect("the legacy stream is not captured", cuStreamBeginCapture(CU_STREAM_LEGACY, CU_STREAM_CAPTURE_MODE_RELAXED), {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED});
  expect("the end of no capture", cuStreamEndCapture(s, &g), {CUDA_ERROR_ILLEGAL_STATE});
  MUST(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
  expect("a captured stream is not waited for", cuStreamSynchronize(s), {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED});
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  expect("the capture after that", cuStreamIsCapturing(s, &status), {CUDA_SUCCESS});
  check("is invalid", status == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
  expect("and ends with an error", cuStreamEndCapture(s, &g), {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED});
  check("and no graph", g == nullptr);
  MUST(cuStreamIsCapturing(s, &status));
  check("then the stream is free again", status == CU_STREAM_CAPTURE_STATUS_NONE);
  expect("and can be waited for", cuStreamSynchronize(s), {CUDA_SUCCESS});

  MUST(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CUdeviceptr p;
  expect("no allocation during a capture that forbids it", cuMemAlloc(&p, 16), {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED});
  expect("it spoils the capture", cuStreamEndCapture(s, &g), {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED});
}

void graphs(const Device &d) {
  CUstream s, t;
  CUevent fork, join;
  CUdeviceptr p, q;
  MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  MUST(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
  MUST(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
  MUST(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
  MUST(cuMemAlloc(&p, 4096));
  MUST(cuMemAlloc(&q, 4096));
  refusals(s);

  MUST(launch(d.fill, Params{p, 1000, 1}, s));
  MUST(launch(d.fill, Params{q, 1000, 10}, s));
  MUST(cuStreamSynchronize(s));
  CUgraph g = nullptr;
  expect("a capture begins", cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), {CUDA_SUCCESS});
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  MUST(cuStreamIsCapturing(s, &status));
  check("and is active", status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  expect("it does not begin twice", cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), {CUDA_ERROR_ILLEGAL_STATE});
  MUST(launch(d.add, Params{p, 1000, 1}, s));
  MUST(cuEventRecord(fork, s));
  expect("a captured event is not queried", cuEventQuery(fork), {CUDA_ERROR_CAPTURED_EVENT});
  cuStreamEndCapture(s, &g); // whether that query spoils the capture is not said
  if (g) MUST(cuGraphDestroy(g));

  MUST(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  MUST(launch(d.add, Params{p, 1000, 1}, s));
  MUST(cuEventRecord(fork, s));
  expect("another stream joins by an event", cuStreamWaitEvent(t, fork, 0), {CUDA_SUCCESS});
  MUST(cuStreamIsCapturing(t, &status));
  check("and is captured", status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  MUST(launch(d.add, Params{q, 1000, 10}, t));
  MUST(launch(d.add, Params{p, 1000, 1}, s));
  MUST(cuEventRecord(join, t));
  MUST(cuStreamWaitEvent(s, join, 0));
  MUST(launch(d.add, Params{q, 1000, 10}, s));
  expect("the capture ends", cuStreamEndCapture(s, &g), {CUDA_SUCCESS});
  check("in a graph", g != nullptr);
  MUST(cuStreamIsCapturing(t, &status));
  check("the stream that joined is free", status == CU_STREAM_CAPTURE_STATUS_NONE);
  check("nothing ran while it was captured", first_number(p) == 1);
  size_t n = 0;
  expect("the graph's nodes", cuGraphGetNodes(g, nullptr, &n), {CUDA_SUCCESS});
  check("are the kernels", n == 4, std::to_string(n));
  CUgraphExec exec = nullptr;
  expect("the graph is instantiated", cuGraphInstantiateWithFlags(&exec, g, 0), {CUDA_SUCCESS});
  expect("and no longer needed", cuGraphDestroy(g), {CUDA_SUCCESS});
  expect("a launch", cuGraphLaunch(exec, s), {CUDA_SUCCESS});
  expect("and another", cuGraphLaunch(exec, s), {CUDA_SUCCESS});
  MUST(launch(d.add, Params{p, 1000, 100}, s));
  MUST(cuStreamSynchronize(s));
  check("both ran, before what came after", first_number(p) == 105);
  check("with both branches", first_number(q) == 50);
  expect("no graph is not launched", cuGraphLaunch(nullptr, s), {CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_INVALID_HANDLE});
  expect("the instance is destroyed", cuGraphExecDestroy(exec), {CUDA_SUCCESS});

  MUST(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  MUST(cuEventRecord(fork, s));
  MUST(cuStreamWaitEvent(t, fork, 0));
  MUST(launch(d.add, Params{q, 1000, 1}, t));
  expect("a capture with work that was not joined", cuStreamEndCapture(s, &g), {CUDA_ERROR_STREAM_CAPTURE_UNJOINED});
  expect("leaves its stream free", cuStreamSynchronize(s), {CUDA_SUCCESS});

  MUST(cuMemFree(p));
  MUST(cuMemFree(q));
  for (CUevent e : {fork, join}) MUST(cuEventDestroy(e));
  for (CUstream x : {s, t}) MUST(cuStreamDestroy(x));
}
