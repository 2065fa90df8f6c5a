// A right program in many schedules: layers whose weights come through a ring of slots while others compute, with the
// result copied out in parts. Nothing may be found, and the result may not depend on the schedule.
#include <string.h>

#include "selftest.h"

static const unsigned layers = 7, slots = 2, n = 256;

static unsigned run() {
  unsigned *masters = nullptr, *out = nullptr;
  CUdeviceptr ring[slots], sum;
  CUevent ready[slots], free_[slots], done;
  MUST(cuMemHostAlloc((void **)&masters, layers * n * 4, 0));
  MUST(cuMemHostAlloc((void **)&out, n * 4, 0));
  for (unsigned i = 0; i < layers * n; i++) masters[i] = i * i;
  for (unsigned i = 0; i < slots; i++) {
    MUST(cuMemAlloc(&ring[i], n * 4));
    MUST(cuEventCreate(&ready[i], CU_EVENT_DISABLE_TIMING));
    MUST(cuEventCreate(&free_[i], CU_EVENT_DISABLE_TIMING));
  }
  MUST(cuEventCreate(&done, CU_EVENT_DISABLE_TIMING));
  MUST(cuMemAlloc(&sum, n * 4));
  unsigned result = 0;
  for (unsigned step = 0; step < 3; step++) {
    MUST(cuMemsetD32Async(sum, step, n, compute));
    for (unsigned l = 0; l < layers; l++) {
      unsigned s = l % slots;
      MUST(cuStreamWaitEvent(copy, free_[s], 0));
      MUST(cuMemcpyHtoDAsync(ring[s], masters + l * n, n * 4, copy));
      MUST(cuEventRecord(ready[s], copy));
      MUST(cuStreamWaitEvent(compute, ready[s], 0));
      accumulate(sum, ring[s], n, compute);
      MUST(cuEventRecord(free_[s], compute));
    }
    MUST(cuMemcpyDtoHAsync(out, sum, n * 4, compute));
    MUST(cuEventRecord(done, compute));
    MUST(cuEventSynchronize(done));
    for (unsigned i = 0; i < n; i++) result = result * 31 + out[i];
  }
  MUST(cuCtxSynchronize());
  for (unsigned i = 0; i < slots; i++) {
    MUST(cuMemFree(ring[i]));
    MUST(cuEventDestroy(ready[i]));
    MUST(cuEventDestroy(free_[i]));
  }
  MUST(cuEventDestroy(done));
  MUST(cuMemFree(sum));
  MUST(cuMemFreeHost(masters));
  MUST(cuMemFreeHost(out));
  return result;
}

void schedules(int count) {
  unsigned want = 0;
  for (int i = 0; i < count; i++) {
    int kind = i < 2 ? i : i % 2 ? EURYALE_RANDOM : EURYALE_BIASED;
    finds("a right program, schedule " + std::to_string(kind) + " with seed " + std::to_string(i), "", [&] {
      euryaleStandinSetSchedule(kind, i);
      unsigned got = run();
      if (i == 0) want = got;
      check("its result with seed " + std::to_string(i), got == want);
    });
  }
}
