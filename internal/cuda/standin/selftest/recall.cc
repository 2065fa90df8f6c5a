// Kernels that are not run because they did the same before: what they leave and what is found is as if they ran.
#include <string.h>

#include "selftest.h"

static const unsigned n = 30; // the last granule is half written

// out += in on bytes that follow from seed; whether the result is right, and whether the kernel was recalled.
static void sums(const std::string &name, unsigned seed, bool recalled) {
  uint64_t before = euryaleStandinCalls("recall");
  unsigned got[32], want[32];
  for (unsigned i = 0; i < 64; i++) host[i] = seed * (i + 1);
  for (unsigned i = 0; i < 32; i++) want[i] = host[i] + (i < n ? host[32 + i] : 0);
  MUST(cuMemcpyHtoD(device, host, 128));
  MUST(cuMemcpyHtoD(other, host + 32, 128));
  launch(function("accumulate"), Params{device, other, n}, compute);
  MUST(cuStreamSynchronize(compute));
  MUST(cuMemcpyDtoH(got, device, 128));
  check(name + ": the sums", !memcmp(got, want, sizeof got));
  check(name + (recalled ? ": it is recalled" : ": it is not recalled"), euryaleStandinCalls("recall") - before == recalled);
}

void recall() {
  for (int time = 0; time < 2; time++) // the second is in memory at other addresses
    finds("kernels that are recalled", "", [&] {
      sums("first bytes", 1, time == 1);
      sums("other bytes", 3, time == 1);
      sums("first bytes again", 1, true);
    });
  finds("what else is in a granule", "", [] {
    sums("first bytes once more", 1, true);
    MUST(cuMemsetD32Async(device + 4 * n, 7, 1, compute));
    uint64_t before = euryaleStandinCalls("recall");
    launch(function("accumulate"), Params{device, other, n}, compute);
    unsigned got;
    MUST(cuStreamSynchronize(compute));
    MUST(cuMemcpyDtoH(&got, device + 4 * n, 4));
    check("it is kept", got == 7 && euryaleStandinCalls("recall") == before);
  });
  for (int time = 0; time < 2; time++) {
    finds("a recalled kernel reads what nobody wrote", time ? "which nobody wrote" : "", [&] {
      euryaleStandinAnnotate(other, 4096, EURYALE_FRESH, EURYALE_NOW);
      if (time == 0) MUST(cuMemsetD8Async(other, 0xCD, 128, compute)); // what it holds anyway
      launch(function("accumulate"), Params{device, other, n}, compute);
      MUST(cuStreamSynchronize(compute));
      check("it is recalled", euryaleStandinCalls("recall") == (uint64_t)time);
    });
    finds("a recalled kernel does not wait for a copy", "without being ordered after", [&] {
      MUST(cuMemsetD8Async(device, 0, 128, compute));
      memset(host, 5, 128);
      MUST(cuMemcpyHtoDAsync(other, host, 128, copy));
      check("the copy has not ended", cuStreamQuery(copy) == CUDA_ERROR_NOT_READY); // and is let run
      launch(function("accumulate"), Params{device, other, n}, compute);
      MUST(cuCtxSynchronize());
      check("it is recalled", euryaleStandinCalls("recall") == (uint64_t)time);
    });
    finds("a kernel that failed", "write of address", [&] {
      launch(function("beyond"), Params{device, other, 1024}, compute);
      check("fails again", cuStreamSynchronize(compute) == CUDA_ERROR_ILLEGAL_ADDRESS && !euryaleStandinCalls("recall"));
    });
  }
}
