#include "contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int assertions, failures;

void check(const std::string &name, bool holds, const std::string &detail) {
  assertions++;
  if (holds) return;
  failures++;
  printf("FAIL %s%s%s\n", name.c_str(), detail.empty() ? "" : ": ", detail.c_str());
}

static std::string text(CUresult r) {
  const char *name = nullptr;
  cuGetErrorName(r, &name);
  return name ? name : std::to_string((int)r);
}

void expect(const std::string &name, CUresult got, std::initializer_list<CUresult> want) {
  std::string wanted;
  bool holds = false;
  for (CUresult w : want) {
    holds |= got == w;
    wanted += (wanted.empty() ? "" : " or ") + text(w);
  }
  check(name, holds, "got " + text(got) + ", want " + wanted);
}

void must(const char *what, CUresult got) {
  if (got == CUDA_SUCCESS) return;
  printf("%s: %s; the suite cannot go on\n", what, text(got).c_str());
  exit(1);
}

CUresult launch(CUfunction f, Params p, CUstream s) {
  void *params[] = {&p};
  return cuLaunchKernel(f, p.n ? (p.n + 255) / 256 : 1, 1, 1, 256, 1, 1, 0, s, params, nullptr);
}

CUresult spin(const Device &d, CUstream s) {
  Params p{0, 1, 150};
  return launch(d.spin, p, s);
}

unsigned first_number(CUdeviceptr p) {
  unsigned v = 0;
  MUST(cuCtxSynchronize());
  MUST(cuMemcpyDtoH(&v, p, sizeof v));
  return v;
}

// A context that was ruined stays so until the process ends, so another process ruins its own.
static void in_another_process(const char *self, const char *argument) {
  pid_t child = fork();
  if (child == 0) {
    execl(self, self, argument, (char *)nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  check("a context ruined by an illegal address, in another process", WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (argc > 1 && !strcmp(argv[1], "ruin")) {
    ruined_context();
  } else {
    in_another_process("/proc/self/exe", "ruin"); // first: a process with a context must not fork
    Device d{};
    before_init();
    contexts(d);
    memory(d);
    modules(d);
    copies(d);
    streams(d);
    events(d);
    graphs(d);
    tensor_maps(d);
    end_of_context(d);
  }
  char name[128] = "?";
  cuDeviceGetName(name, sizeof name, 0);
  printf("%s: %d assertions, %d failed\n", name, assertions, failures);
  return failures > 0;
}
