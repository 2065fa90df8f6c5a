// What a CUDA driver promises, one assertion each: the same program asks the stand-in driver and a real one. An
// assertion states what NVIDIA documents (or, where it documents several codes, that it is one of them); the number of
// assertions and of those that failed is printed, and the exit code is 1 if any did.
#pragma once

#include <cuda.h>

#include <initializer_list>
#include <string>

void check(const std::string &name, bool holds, const std::string &detail = "");
void expect(const std::string &name, CUresult got, std::initializer_list<CUresult> want);

// Stops the program: without this the rest makes no sense.
void must(const char *what, CUresult got);
#define MUST(call) must(#call, call)

// The kernels' parameter.
struct Params {
  CUdeviceptr out;
  unsigned n, value;
};

// What the parts share once contexts were looked at.
struct Device {
  CUdevice id;
  CUcontext context;
  CUmodule module;
  CUfunction fill, add, reverse, spin;
};

CUresult launch(CUfunction f, Params p, CUstream s);
// Work of a tenth of a second or so; on the stand-in, work that has not run until somebody waits.
CUresult spin(const Device &d, CUstream s);
// The first number at p, after all work is done.
unsigned first_number(CUdeviceptr p);

void before_init();
void contexts(Device &d);
void memory(const Device &d);
void modules(Device &d);
void copies(const Device &d);
void streams(const Device &d);
void events(const Device &d);
void graphs(const Device &d);
void tensor_maps(const Device &d);
void end_of_context(Device &d);
void ruined_context(); // in a process of its own
