// Waits that are missing or wrong.
#include "selftest.h"

static const char *unordered = "without being ordered after";

static void upload() { MUST(cuMemcpyHtoDAsync(device, host, 4096, copy)); }
static void use() { accumulate(other, device, 1024, compute); }

static void right() {
  upload();
  MUST(cuEventRecord(event, copy));
  MUST(cuStreamWaitEvent(compute, event, 0));
  use();
  MUST(cuStreamSynchronize(compute));
}

void ordering() {
  finds("weights are copied, waited for, used", "", right);
  finds("weights are used without a wait for their copy", unordered, [] {
    upload();
    use();
  });
  finds("the event is recorded before the copy", unordered, [] {
    MUST(cuEventRecord(event, copy));
    upload();
    MUST(cuStreamWaitEvent(compute, event, 0));
    use();
  });
  finds("the event is recorded in the other stream", unordered, [] {
    upload();
    MUST(cuEventRecord(event, compute));
    MUST(cuStreamWaitEvent(compute, event, 0));
    use();
  });
  finds("the other stream waits", unordered, [] {
    upload();
    MUST(cuEventRecord(event, copy));
    MUST(cuStreamWaitEvent(copy, event, 0));
    use();
  });
  finds("the wait comes before the record", unordered, [] {
    MUST(cuStreamWaitEvent(compute, event, 0));
    upload();
    MUST(cuEventRecord(event, copy));
    use();
  });
  finds("the wait comes after the use", unordered, [] {
    upload();
    MUST(cuEventRecord(event, copy));
    use();
    MUST(cuStreamWaitEvent(compute, event, 0));
  });
  finds("a wait keeps the record it saw", unordered, [] {
    MUST(cuEventRecord(event, copy));
    MUST(cuStreamWaitEvent(compute, event, 0));
    upload();
    MUST(cuEventRecord(event, copy));
    use();
  });
  finds("a slot is filled again while it is read", unordered, [] {
    use();
    upload();
  });
  finds("a slot is filled again after its reader", "", [] {
    use();
    MUST(cuEventRecord(event, compute));
    MUST(cuStreamWaitEvent(copy, event, 0));
    upload();
  });
  finds("the host waits in place of the stream", "", [] {
    upload();
    MUST(cuStreamSynchronize(copy));
    use();
  });
  finds("the host waits for the wrong stream", unordered, [] {
    upload();
    MUST(cuStreamSynchronize(compute));
    use();
  });
  finds("the host waits for an event recorded too early", unordered, [] {
    MUST(cuEventRecord(event, copy));
    upload();
    MUST(cuEventSynchronize(event));
    use();
  });
  finds("the host asks until the copy is done", "", [] {
    upload();
    while (cuStreamQuery(copy) == CUDA_ERROR_NOT_READY) {}
    use();
  });
  finds("the host asks once and goes on", unordered, [] {
    upload();
    cuStreamQuery(copy);
    use();
  });
  finds("the result is copied out before it is there", unordered, [] {
    use();
    MUST(cuMemcpyDtoHAsync(host, other, 4096, copy));
  });
  finds("two streams write the same memory", unordered, [] {
    MUST(cuMemsetD8Async(device, 1, 4096, copy));
    MUST(cuMemsetD8Async(device, 2, 4096, compute));
  });
  finds("two streams write different parts", "", [] {
    MUST(cuMemsetD8Async(device, 1, 2048, copy));
    MUST(cuMemsetD8Async(device + 2048, 2, 2048, compute));
  });
  finds("a host range is read by one stream while another writes it", unordered, [] {
    MUST(cuMemcpyDtoHAsync(host, other, 4096, compute));
    upload();
  });
  finds("a copy without a stream is not before a non-blocking stream", unordered, [] {
    static unsigned pageable[1024];
    MUST(cuMemcpyHtoD(device, pageable, 4096));
    use();
  });
  finds("a copy without a stream from page-locked memory is", "", [] {
    MUST(cuMemcpyHtoD(device, host, 4096));
    use();
  });
  finds("a fill without a stream is not", unordered, [] {
    MUST(cuMemsetD8(device, 1, 4096));
    use();
  });
  finds("branches of a graph that write the same memory", unordered, [] {
    CUgraph g;
    CUgraphExec e;
    CUevent join;
    MUST(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
    MUST(cuStreamBeginCapture(compute, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    MUST(cuEventRecord(event, compute));
    MUST(cuStreamWaitEvent(copy, event, 0));
    MUST(cuMemsetD8Async(device, 1, 4096, copy));
    MUST(cuMemsetD8Async(device, 2, 4096, compute));
    MUST(cuEventRecord(join, copy));
    MUST(cuStreamWaitEvent(compute, join, 0));
    MUST(cuStreamEndCapture(compute, &g));
    MUST(cuGraphInstantiateWithFlags(&e, g, 0));
    MUST(cuGraphLaunch(e, compute));
  });
}

// The mistakes made by the driver in place of the program: calls that order something are dropped or misled.
void mutants() {
  struct { const char *name; int kind; } all[] = {
      {"cuEventRecord", EURYALE_DROP}, {"cuStreamWaitEvent", EURYALE_DROP}, {"cuEventRecord", EURYALE_SWAP}, {"cuStreamWaitEvent", EURYALE_SWAP}};
  for (auto &m : all)
    finds(std::string("mutant ") + m.name + (m.kind == EURYALE_DROP ? " dropped" : " in another stream"), unordered, [&] {
      euryaleStandinSetMutant(m.name, 1, m.kind, 0);
      right();
    });
  finds("a mutant of another call", "", [] {
    euryaleStandinSetMutant("cuEventRecord", 2, EURYALE_DROP, 0);
    right();
  });
  finds("mutant cuMemFree dropped", "leak: the context ends with 4096 bytes of the device", [] {
    euryaleStandinSetMutant("cuMemFree", 1, EURYALE_DROP, 0);
    MUST(cuMemFree(device));
    cuDevicePrimaryCtxRelease(0);
  });
  finds("mutant cuStreamSynchronize dropped", "the host reads", [] {
    MUST(cuMemcpyDtoHAsync(host, device, 4096, copy));
    euryaleStandinSetMutant("cuStreamSynchronize", 1, EURYALE_DROP, 1);
    MUST(cuStreamSynchronize(copy));
    volatile unsigned v = host[5];
    (void)v;
  });
}
