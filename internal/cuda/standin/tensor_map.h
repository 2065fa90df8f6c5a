// What the stand-in's tensor maps hold: its cuTensorMapEncodeTiled writes them, its bulk copies read them. A device's are
// its driver's secret. The address is that of the device until a launch makes it the host's, as with every pointer in a
// parameter.
#pragma once

#include <cstdint>

namespace emulate {

struct TensorMapContents {
  char magic[8];
  uint64_t address;
  uint64_t columns, rows;  // numbers in a row, rows
  uint64_t stride;         // bytes from row to row
  uint32_t box_columns, box_rows;
  uint32_t rank, bytes;    // of a number
  uint32_t swizzle, plain; // plain: nothing of what copies here do not model
};

const char tensor_map_magic[8] = {'s', 't', 'a', 'n', 'd', '-', 'i', 'n'};

} // namespace emulate
