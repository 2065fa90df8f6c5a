// Barriers, bulk copies and products of tiles: the right program computes right, and each mistake is seen. A block that
// would wait forever is reported and does not hang.
#include <cuda_tensor_map.h>
#include <math.h>
#include <vector>

#include "selftest.h"

// As in ../selftest_hopper.cu.
struct HopperParams {
  CUtensorMap a, b;
  CUdeviceptr out, gathered;
  int32_t steps, mistake;
};

static const int ROWS = 64, COLUMNS = 128;

static float number(uint16_t h) { return (h & 0x8000 ? -1.f : 1.f) * ldexpf((float)(1024 + (h & 1023)), (h >> 10 & 31) - 25); }

static CUtensorMap map_of(CUdeviceptr p, int rows, int k) {
  CUtensorMap m;
  cuuint64_t dims[] = {(cuuint64_t)k, (cuuint64_t)rows}, strides[] = {(cuuint64_t)k * 2};
  cuuint32_t box[] = {64, 64}, steps[] = {1, 1};
  MUST(cuTensorMapEncodeTiled(&m, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, (void *)p, dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                              CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return m;
}

// Runs the kernel, and says how far its product is from the right one.
static float run(int mistake, bool gathered, int steps) {
  const int k = steps * 64;
  std::vector<uint16_t> in((ROWS + COLUMNS) * k);
  uint32_t seed = 1;
  for (auto &v : in) v = 0x3c00 ^ ((seed = seed * 1664525 + 1013904223) >> 16 & 0x83ff); // about one, either sign
  CUdeviceptr a, b, out;
  MUST(cuMemAlloc(&a, ROWS * k * 2));
  MUST(cuMemAlloc(&b, COLUMNS * k * 2));
  MUST(cuMemAlloc(&out, ROWS * COLUMNS * 4));
  MUST(cuMemcpyHtoD(a, in.data(), ROWS * k * 2));
  MUST(cuMemcpyHtoD(b, in.data() + ROWS * k, COLUMNS * k * 2));
  MUST(cuStreamSynchronize(nullptr)); // such a copy may be under way when the call returns
  HopperParams p{map_of(a, ROWS, k), map_of(b, COLUMNS, k), out, gathered ? a : 0, steps, mistake};
  void *list[] = {&p};
  CUfunction f = function("hopper");
  MUST(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10));
  MUST(cuLaunchKernel(f, 1, 1, 1, 256, 1, 1, 2 * (64 + 128) * 128 + 2048, compute, list, nullptr));
  std::vector<float> got(ROWS * COLUMNS);
  float worst = 0;
  if (cuStreamSynchronize(compute) == CUDA_SUCCESS) {
    MUST(cuMemcpyDtoH(got.data(), out, got.size() * 4));
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < COLUMNS; j++) {
        double sum = 0;
        for (int e = 0; e < k; e++) sum += (double)number(in[i * k + e]) * number(in[(ROWS + j) * k + e]);
        float d = fabs(sum - got[i * COLUMNS + j]);
        if (!(d <= worst)) worst = d;
      }
  }
  for (CUdeviceptr q : {a, b, out}) cuMemFree(q);
  return worst;
}

void hopper() {
  const char *hang = "wait in different places", *flying = "while a copy to it is under way";
  struct { const char *name; int mistake; bool gathered; const char *text; } cases[] = {
      {"is right", 0, false, ""},
      {"with a gathered tile is right", 0, true, ""},
      {"without waiting for its tiles", 1, false, "multiplied"},
      {"of which one warp does not wait for its tiles", 2, false, "multiplied"},
      {"with too few bytes expected", 3, false, flying},
      {"with too many bytes expected", 4, false, "lacks 0 arrivals and 1 bytes"},
      {"that refills without waiting for products", 5, false, "one arrival more"},
      {"that refills without waiting for products, gathered", 5, true, flying},
      {"that tells too early that a tile is free", 6, false, "refilled"},
      {"of which one warp never tells", 7, false, hang},
      {"that stores sums under way", 8, false, "refilled"},
      {"without products_fence", 9, false, "without products_fence"},
      {"without fence_proxy_async", 10, true, "not make known to the async proxy"},
      {"that arrives before its copies", 11, true, "without waiting for what was written there"},
      {"without barriers_ready", 12, false, "barriers_ready did not make known"},
      {"without block_sync", 13, false, "used without a block_sync"},
      {"that waits for the other parity", 14, false, "multiplied"},
      {"with a descriptor without swizzle", 15, false, "is not modelled"},
      {"with tiles out of line", 16, false, "no multiple of 1,024"},
      {"whose warps multiply different tiles", 17, false, "different tiles"},
      {"that ends too early", 18, false, "ends while a bulk copy is under way"},
  };
  for (auto &c : cases)
    finds(std::string("a product of tiles ") + c.name, c.text, [&] {
      float worst = run(c.mistake, c.gathered, 5);
      if (!*c.text) check(std::string("a product of tiles ") + c.name + ": the numbers", worst <= 1e-2f);
    });
  finds("sums are no numbers while products are under way", "", [] { check("sums under way", std::isnan(run(8, false, 1))); });
}
