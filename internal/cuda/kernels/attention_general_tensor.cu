// Attention of transformers' head sizes on tensor cores, with shared heads of keys, a bias, or keys that an image does not
// have, and without them heads of 128. A pipeline of UNets does not load this file.
#include "attention_tensor.h"

// layers.tensorHeads has the same numbers.
#define ATTENTION(D, WARPS, MT, KEYS, HELD)                                                                            \
  KERNEL(attention_general_##D##_f16, GeneralAttentionParams, WARPS * 32) { attention<f16, D, D, WARPS, MT, KEYS, HELD>(of_block<f16>(p)); } \
  KERNEL(attention_general_##D##_bf16, GeneralAttentionParams, WARPS * 32) { attention<bf16, D, D, WARPS, MT, KEYS, HELD>(of_block<bf16>(p)); }

ATTENTION(64, 4, 2, 64, true)
ATTENTION(128, 4, 2, 32, false)
KERNEL(attention_128_f16, AttentionParams, 128) { attention<f16, 128, 128, 4, 2, 32, false>(p); }
KERNEL(attention_128_bf16, AttentionParams, 128) { attention<bf16, 128, 128, 4, 2, 32, false>(p); }
