// Tensor maps: every requirement that the driver's documentation states is checked.
#include <cuda_tensor_map.h>
#include <string.h>

#include "driver.h"
#include "tensor_map.h"

using namespace standin;

// Bytes of a number, 0 of none.
static unsigned size_of(CUtensorMapDataType t) {
  static const unsigned sizes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  return (unsigned)t < sizeof sizes / sizeof *sizes ? sizes[t] : 0;
}

static bool is_float(CUtensorMapDataType t) { return t >= CU_TENSOR_MAP_DATA_TYPE_FLOAT16; }

static bool modes_allowed(CUtensorMapDataType type, cuuint32_t rank, cuuint32_t box_bytes, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                          CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  if ((unsigned)interleave > CU_TENSOR_MAP_INTERLEAVE_32B || (unsigned)swizzle > CU_TENSOR_MAP_SWIZZLE_128B) return false;
  if ((unsigned)promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B || (unsigned)fill > CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA) return false;
  if (fill && !is_float(type)) return false;
  if (interleave && rank < 3) return false;
  if (interleave == CU_TENSOR_MAP_INTERLEAVE_32B && swizzle != CU_TENSOR_MAP_SWIZZLE_32B) return false;
  if (interleave) return true;
  return box_bytes % 16 == 0 && (!swizzle || box_bytes <= 16u << swizzle);
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address, const cuuint64_t *dims, const cuuint64_t *strides,
                                const cuuint32_t *box, const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  ENTER(Call::CONTEXT);
  const CUresult invalid = CUDA_ERROR_INVALID_VALUE;
  const uintptr_t aligned = interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16;
  if (!map || (uintptr_t)map % 64 || !size_of(type) || !rank || rank > 5) return invalid;
  if (!address || (uintptr_t)address % aligned || !dims || !box || !steps || (rank > 1 && !strides)) return invalid;
  bool plain = true;
  for (cuuint32_t i = 0; i < rank; i++) {
    if (!dims[i] || dims[i] > 1ull << 32 || !box[i] || box[i] > 256) return invalid;
    if ((i || interleave) && (!steps[i] || steps[i] > 8)) return invalid;
    if (i) plain &= steps[i] == 1;
    if (i + 1 < rank && (strides[i] % aligned || strides[i] >= 1ull << 40 || strides[i] < dims[i])) return invalid;
  }
  if (!modes_allowed(type, rank, box[0] * size_of(type), interleave, swizzle, promotion, fill)) return invalid;
  emulate::TensorMapContents c{};
  memcpy(c.magic, emulate::tensor_map_magic, sizeof c.magic);
  c.address = (uint64_t)(uintptr_t)address, c.columns = dims[0], c.box_columns = box[0];
  c.rows = rank > 1 ? dims[1] : 1, c.stride = rank > 1 ? strides[0] : 0, c.box_rows = rank > 1 ? box[1] : 1;
  c.rank = rank, c.bytes = size_of(type), c.swizzle = swizzle, c.plain = plain && !interleave && !fill;
  static_assert(sizeof c <= sizeof *map, "");
  memset(map, 0, sizeof *map);
  memcpy(map, &c, sizeof c);
  return CUDA_SUCCESS;
}
