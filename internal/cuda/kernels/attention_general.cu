// Attention for every device with shared heads of keys, a bias, or keys that an image does not have.
#include "attention_float.h"

#define ATTENTION(T, name)                                                                                             \
  KERNEL(attention_general_upto_64_##name, GeneralAttentionParams, 256) { attention<T, 64>(of_block<T>(p)); } \
  KERNEL(attention_general_upto_160_##name, GeneralAttentionParams, 256) { attention<T, 160>(of_block<T>(p)); } \
  KERNEL(attention_general_upto_512_##name, GeneralAttentionParams, 256) { attention<T, 512>(of_block<T>(p)); }

ATTENTION(float, f32)
ATTENTION(f16, f16)
ATTENTION(bf16, bf16)
