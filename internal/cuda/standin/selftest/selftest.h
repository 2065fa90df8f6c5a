// The test of the tests: mistakes made on purpose, each of which the stand-in must see, and right programs, about which
// it must say nothing whatever the schedule.
#pragma once

#include <cuda.h>

#include <functional>
#include <string>

#include "../standin.h"

#define MUST(call) must(#call, call)
void must(const char *what, CUresult got);

// Runs body in a fresh driver with a context, and wants a finding with the text in it, or none if it is empty.
void finds(const std::string &name, const std::string &text, std::function<void()> body);
void check(const std::string &name, bool holds);

// What bodies use; made anew for each.
extern CUstream copy, compute;
extern CUdeviceptr device, other; // 4,096 bytes each
extern unsigned *host;            // 4,096 page-locked bytes
extern CUevent event;

struct Params {
  CUdeviceptr out, in;
  uint32_t n, padding = 0; // of a known value: a launch is known by all bytes
};
CUfunction function(const std::string &name, int threads = 128);
void launch(CUfunction f, Params p, CUstream s, unsigned shared = 0, int threads = 128, int blocks = 1);
void accumulate(CUdeviceptr out, CUdeviceptr in, unsigned n, CUstream s);

void ordering();
void mutants();
void memory();
void handles();
void kernels();
void hopper();
void recall();
void schedules(int n);
