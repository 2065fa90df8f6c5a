// What runs beside the threads of a block on compute capability 9.0, between block.cc, which has the threads, and async.cc.
#pragma once

#include <cstddef>
#include <string>

namespace emulate {

// ---- block.cc ----

enum Waiting { FOR_BARRIER, FOR_PRODUCTS };

// The running thread waits until somebody wakes it.
void park(Waiting what);
void wake(unsigned thread);

// ---- async.cc ----

void async_start(unsigned threads);

// Nobody can go on: lets one bulk copy arrive that somebody waits for. False if there is none.
bool async_deliver();

// What barriers lack that somebody waits for, for the report.
std::string async_missing();

// The last thread has ended.
void async_end();

// A cp.async of 16 bytes by the running thread begins, or its bytes land.
void async_copy(const void *to, bool landed);

} // namespace emulate
