// What tests ask of the stand-in driver beside the driver's own interface. The library is build/standin/libcuda.so.1;
// a program that links to libcuda.so.1 runs on it with
//
//   LD_LIBRARY_PATH=build/standin EURYALE_STANDIN=1
//
// Without EURYALE_STANDIN=1 cuInit fails. Further settings from the environment:
//
//   EURYALE_STANDIN_MEMORY    bytes of device memory, 1 GiB if unset
//   EURYALE_STANDIN_SCHEDULE  lazy, eager, random:SEED or biased:SEED
//   EURYALE_STANDIN_CAPABILITY  the compute capability, 9.0 if unset
//   EURYALE_STANDIN_RECALL    0: kernels run though what they do on the same bytes is known; see recall.cc
//   EURYALE_STANDIN_REPORT    1: what is found goes to standard error too, when the process exits
//
// Nothing has to be declared for ordering to be checked: the kernels are compiled with a hook on each access to memory,
// so the driver knows the 16-byte granules a kernel reads and writes, as it knows those of copies and fills. Of each
// granule it keeps the last writer and the readers since, as (stream, time) pairs, and every piece of work has a vector
// clock of what it is ordered after. Two accesses of which neither is ordered after the other, and one writes, are
// reported, in whatever order the schedule ran them. So are reads of what nobody wrote.
//
// Host code's own reads and writes of page-locked memory are seen by protecting the pages that copies in flight use:
// the access is reported and then let through. A system call on such a page fails with EFAULT instead.
#pragma once

#include <cuda.h>

#ifdef __cplusplus
extern "C" {
#endif

// Back to how the process started: contexts, memory, faults, counts and reports are gone, the schedule is that of the
// environment.
void euryaleStandinReset(void);

// What was found since the last Reset, one finding a line, "" if nothing. The text is valid until the next call.
const char *euryaleStandinReport(void);
void euryaleStandinClearReport(void);

// When work that was submitted runs.
enum {
  EURYALE_LAZY = 0,   // as late as possible: when somebody waits for it; each query lets one piece of work run
  EURYALE_EAGER = 1,  // at once
  EURYALE_RANDOM = 2, // after every call, some work of some streams
  EURYALE_BIASED = 3  // after every call, some work of streams the seed prefers; the others starve
};
void euryaleStandinSetSchedule(int kind, uint64_t seed);

// Makes the n-th call (the next is 1) of the named function, or of any if name is NULL or "", return code instead of
// doing anything; if persistent, the later ones too. The name is that of the interface: cuMemAlloc, not cuMemAlloc_v2.
// "execute" names the execution of a piece of work instead: the error is then seen by whoever waits. Codes that ruin
// a context (700, 702, 710, 714 to 719) do. Once a fault has struck, releasing memory counts as waiting for the work that
// uses it: the driver does wait, and the call that failed may have been what should have. One fault at a time; n = 0
// removes it.
void euryaleStandinSetFault(const char *name, uint64_t n, int code, int persistent);

// A mutant of the program under test: its n-th call (the next is 1) of the named function, and all later ones if every,
// succeeds without doing anything, or acts on another stream than it names. n = 0 removes it.
enum { EURYALE_DROP = 0, EURYALE_SWAP = 1 };
void euryaleStandinSetMutant(const char *name, uint64_t n, int kind, int every);

// How often the named function, or any if name is NULL or "", was called since the last Reset; with "recall", how many
// kernels were not run because it was known what they do.
uint64_t euryaleStandinCalls(const char *name);

// The memory of the device, of which other processes have taken some. largest is the largest block an allocation can
// get, 0 if it is all that is free.
void euryaleStandinSetMemory(size_t capacity, size_t taken, size_t largest);

// Makes cuMemGetInfo answer this, until it is called with zeros.
void euryaleStandinSetMemoryInfo(size_t free, size_t total);

// Bytes now allocated on the device, the most since the last Reset, and page-locked bytes of the host.
void euryaleStandinMemory(size_t *live, size_t *peak, size_t *host);

// How many allocations, page-locked ranges, streams, events, modules and graphs are alive. Objects whose release failed
// by a fault are not counted, nor reported as leaks.
size_t euryaleStandinLive(void);

// Gives a part of an allocation a new life, in stream order, for memory that is allocated within an allocation:
// FRESH: allocated, nothing written yet; FREE: nobody may touch it. With stream EURYALE_NOW it happens at once.
enum { EURYALE_FREE = 0, EURYALE_FRESH = 1 };
#define EURYALE_NOW ((CUstream)(intptr_t)-1)
void euryaleStandinAnnotate(CUdeviceptr ptr, size_t bytes, int state, CUstream stream);

// Makes a stream's work wait forever. Who waits for it gets CUDA_ERROR_LAUNCH_TIMEOUT, and a report.
void euryaleStandinStall(CUstream stream);

#ifdef __cplusplus
}
#endif
