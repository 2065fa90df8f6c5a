// Tensor maps. Drivers before CUDA 12.0 have none, and the function is looked up as the module does it.
#include <cuda_tensor_map.h>
#include <dlfcn.h>
#include <stdio.h>

#include "contract.h"

// The arguments of a map that is right: 100 rows of 72 numbers, copied by boxes of 64 columns and 80 rows.
struct Arguments {
  alignas(64) CUtensorMap maps[2];
  CUtensorMap *map = maps;
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  cuuint32_t rank = 2;
  CUdeviceptr address = 0;
  cuuint64_t dims[2] = {72, 100}, strides[1] = {144};
  cuuint32_t box[2] = {64, 80}, steps[2] = {1, 1};
  CUtensorMapInterleave interleave = CU_TENSOR_MAP_INTERLEAVE_NONE;
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
  CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
};

void tensor_maps(const Device &d) {
  auto *encode = (decltype(&cuTensorMapEncodeTiled))dlsym(RTLD_DEFAULT, "cuTensorMapEncodeTiled");
  int major = 0;
  MUST(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, d.id));
  if (!encode || major < 9) {
    printf("tensor maps: not asked, the %s has none\n", encode ? "device" : "driver");
    return;
  }
  CUdeviceptr p;
  MUST(cuMemAlloc(&p, 16384));
  auto with = [&](const char *name, CUresult want, auto change) {
    Arguments a;
    a.address = p;
    change(a);
    expect(std::string("a tensor map ") + name,
           encode(a.map, a.type, a.rank, (void *)a.address, a.dims, a.strides, a.box, a.steps, a.interleave, a.swizzle, a.promotion, a.fill), {want});
  };
  const CUresult good = CUDA_SUCCESS, bad = CUDA_ERROR_INVALID_VALUE;
  with("of 16-bit numbers", good, [](Arguments &) {});
  with("of bf16", good, [](Arguments &a) { a.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16; });
  with("of one row, smaller than its box", good, [](Arguments &a) { a.dims[0] = 8, a.dims[1] = 1, a.strides[0] = 16; });
  with("with rows further apart", good, [](Arguments &a) { a.strides[0] = 160; });
  with("with boxes of 256 rows", good, [](Arguments &a) { a.box[1] = 256; });
  with("at a multiple of 16", good, [](Arguments &a) { a.address += 16; });
  with("without swizzle", good, [](Arguments &a) { a.swizzle = CU_TENSOR_MAP_SWIZZLE_NONE; });
  with("whose step along rows is ignored", good, [](Arguments &a) { a.steps[0] = 9; });
  with("without a place", bad, [](Arguments &a) { a.map = nullptr; });
  with("at no multiple of 64", bad, [](Arguments &a) { a.map = (CUtensorMap *)((char *)a.maps + 16); });
  with("of no type", bad, [](Arguments &a) { a.type = (CUtensorMapDataType)1000; });
  with("of no dimension", bad, [](Arguments &a) { a.rank = 0; });
  with("of six dimensions", bad, [](Arguments &a) { a.rank = 6; });
  with("at no multiple of 16", bad, [](Arguments &a) { a.address += 8; });
  with("of no rows", bad, [](Arguments &a) { a.dims[1] = 0; });
  with("of more than 2^32 rows", bad, [](Arguments &a) { a.dims[1] = (1ull << 32) + 1; });
  with("with rows apart by no multiple of 16", bad, [](Arguments &a) { a.strides[0] = 152; });
  with("with rows 2^40 apart", bad, [](Arguments &a) { a.strides[0] = 1ull << 40; });
  with("with boxes of no rows", bad, [](Arguments &a) { a.box[1] = 0; });
  with("with boxes of 257 rows", bad, [](Arguments &a) { a.box[1] = 257; });
  with("with boxes of no multiple of 16 bytes", bad, [](Arguments &a) { a.box[0] = 60; });
  with("with boxes wider than the swizzle", bad, [](Arguments &a) { a.box[0] = 72; });
  with("with boxes wider than a swizzle of 64", bad, [](Arguments &a) { a.swizzle = CU_TENSOR_MAP_SWIZZLE_64B; });
  with("that takes no rows", bad, [](Arguments &a) { a.steps[1] = 0; });
  with("that takes every ninth row", bad, [](Arguments &a) { a.steps[1] = 9; });
  with("interleaved, of two dimensions", bad, [](Arguments &a) { a.interleave = CU_TENSOR_MAP_INTERLEAVE_16B; });
  with("of no interleaving", bad, [](Arguments &a) { a.interleave = (CUtensorMapInterleave)1000; });
  with("of no swizzle", bad, [](Arguments &a) { a.swizzle = (CUtensorMapSwizzle)1000; });
  with("of no promotion", bad, [](Arguments &a) { a.promotion = (CUtensorMapL2promotion)1000; });
  with("of no fill", bad, [](Arguments &a) { a.fill = (CUtensorMapFloatOOBfill)1000; });
  with("of integers filled with what is no number", bad, [](Arguments &a) {
    a.type = CU_TENSOR_MAP_DATA_TYPE_UINT16, a.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
  });
  expect("those were no lasting errors", cuCtxSynchronize(), {CUDA_SUCCESS});
  MUST(cuMemFree(p));
}
