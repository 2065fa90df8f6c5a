#include "selftest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>

static int cases, failures;
CUstream copy, compute;
CUdeviceptr device, other;
unsigned *host;
CUevent event;
static CUmodule module;

void check(const std::string &name, bool holds) {
  cases++;
  if (holds) return;
  failures++;
  printf("FAIL %s\n", name.c_str());
}

void must(const char *what, CUresult got) {
  if (got == CUDA_SUCCESS) return;
  printf("%s: error %d\n%s", what, got, euryaleStandinReport());
  exit(1);
}

// PTX of which the stand-in reads the declarations alone.
static std::string ptx() {
  static const std::map<std::string, int> all = {
      {"accumulate", 128}, {"beyond", 128}, {"race", 128}, {"warps", 128}, {"diverge", 128}, {"meet", 128}, {"hasty", 128}, {"patient", 128},
      {"overflow", 128}, {"crooked", 128}, {"foreign", 128}, {"product_f16", 32}, {"product_bf16", 32}, {"missing", 128}, {"hopper", 256}};
  std::string text = ".version 7.0\n.target sm_80\n.address_size 64\n";
  for (auto &[name, threads] : all)
    text += ".visible .entry selftest_" + name + "(\n.param .align 8 .b8 selftest_" + name + "_param_0[" +
            (name == "hopper" ? "320" : "24") + "]\n)\n.maxntid " + std::to_string(threads) + ", 1, 1\n{\nret;\n}\n";
  return text;
}

CUfunction function(const std::string &name, int) {
  CUfunction f;
  MUST(cuModuleGetFunction(&f, module, ("selftest_" + name).c_str()));
  return f;
}

void launch(CUfunction f, Params p, CUstream s, unsigned shared, int threads, int blocks) {
  void *list[] = {&p};
  MUST(cuLaunchKernel(f, blocks, 1, 1, threads, 1, 1, shared, s, list, nullptr));
}

void accumulate(CUdeviceptr out, CUdeviceptr in, unsigned n, CUstream s) { launch(function("accumulate"), Params{out, in, n}, s, 0, 128, 2); }

void finds(const std::string &name, const std::string &text, std::function<void()> body) {
  euryaleStandinReset();
  CUcontext ctx;
  MUST(cuDevicePrimaryCtxRetain(&ctx, 0));
  MUST(cuCtxSetCurrent(ctx));
  MUST(cuModuleLoadData(&module, ptx().c_str()));
  MUST(cuStreamCreate(&copy, CU_STREAM_NON_BLOCKING));
  MUST(cuStreamCreate(&compute, CU_STREAM_NON_BLOCKING));
  MUST(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  MUST(cuMemAlloc(&device, 4096));
  MUST(cuMemAlloc(&other, 4096));
  MUST(cuMemHostAlloc((void **)&host, 4096, 0));
  MUST(cuMemsetD8Async(device, 0, 4096, compute));
  MUST(cuMemsetD8Async(other, 0, 4096, compute));
  MUST(cuStreamSynchronize(compute));
  memset(host, 0, 4096);
  body();
  cuCtxSynchronize();
  std::string report = euryaleStandinReport();
  bool good = text.empty() ? report.empty() : report.find(text) != std::string::npos;
  check(name + ": want " + (text.empty() ? "nothing" : "\"" + text + "\"") + ", found " + (report.empty() ? "nothing" : report), good);
}

int main(int argc, char **argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  MUST(cuInit(0));
  ordering();
  mutants();
  memory();
  handles();
  kernels();
  hopper();
  recall();
  schedules(argc > 1 ? atoi(argv[1]) : 2000);
  printf("self-test of the stand-in driver: %d cases, %d failed\n", cases, failures);
  return failures > 0;
}
