// Attention for every device. A pipeline loads this file alone if it has no use for what attention_general.cu adds.
#include "attention_float.h"

#define ATTENTION(T, name)                                                                                             \
  KERNEL(attention_upto_64_##name, AttentionParams, 256) { attention<T, 64>(p); }                                      \
  KERNEL(attention_upto_160_##name, AttentionParams, 256) { attention<T, 160>(p); }                                    \
  KERNEL(attention_upto_512_##name, AttentionParams, 256) { attention<T, 512>(p); }

ATTENTION(float, f32)
ATTENTION(f16, f16)
ATTENTION(bf16, bf16)
