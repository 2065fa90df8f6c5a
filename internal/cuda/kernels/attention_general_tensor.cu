// Attention of transformers' head sizes on tensor cores: heads of 128, and of 64 and 128 with shared heads of keys, a
// bias, or keys that an image does not have. A pipeline of UNets does not load this file.
#include "attention_tensor.h"

// ops.tensorHeads has the same numbers.
#define ATTENTION(FAMILY, PARAMS, T, D, WARPS, MT, KEYS, HELD, OWN)                                                    \
  KERNEL(FAMILY##D##_##T, PARAMS, WARPS * 32) { attention<T, D, D, WARPS, MT, KEYS, HELD>(OWN); }

#define PLAIN(...) ATTENTION(attention_, AttentionParams, __VA_ARGS__, p)
#define GENERAL(T, ...) ATTENTION(attention_general_, GeneralAttentionParams, T, __VA_ARGS__, of_block<T>(p))

PLAIN(f16, 128, 4, 2, 32, false)
PLAIN(bf16, 128, 4, 2, 32, false)
GENERAL(f16, 64, 4, 2, 64, true)
GENERAL(bf16, 64, 4, 2, 64, true)
GENERAL(f16, 128, 4, 2, 32, false)
GENERAL(bf16, 128, 4, 2, 32, false)
