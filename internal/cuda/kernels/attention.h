// The argument of every attention kernel.
#pragma once
#include "machine.h"

// softmax(q k^T scale) v in each head.
struct AttentionParams {
  const void *q;     // [B SQ HEADS*D]
  const void *k, *v; // [B SKV HEADS*D]
  void *out;         // like q
  int32_t sq, skv, heads, d, causal;
  float scale;
};
