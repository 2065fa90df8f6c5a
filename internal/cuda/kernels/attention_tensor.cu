// Attention of the head sizes of UNets and their VAEs on tensor cores.
#include "attention_tensor.h"

// ops.tensorHeads has the same numbers.
#define ATTENTION(D, DV, WARPS, MT, KEYS, HELD)                                                                        \
  KERNEL(attention_##D##_f16, AttentionParams, WARPS * 32) { attention<f16, D, DV, WARPS, MT, KEYS, HELD>(p); }        \
  KERNEL(attention_##D##_bf16, AttentionParams, WARPS * 32) { attention<bf16, D, DV, WARPS, MT, KEYS, HELD>(p); }

ATTENTION(40, 40, 4, 2, 64, true)
ATTENTION(64, 64, 4, 2, 64, true)
ATTENTION(80, 80, 4, 2, 64, false)
ATTENTION(160, 160, 4, 1, 32, true)
ATTENTION(512, 128, 2, 1, 16, false)
