// The arguments of attention kernels.
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

// softmax(q k^T scale + bias) v, where heads of q share heads of k and v, and an image has a number of keys of its own.
struct GeneralAttentionParams : AttentionParams { // k, v [B SKV KV_HEADS*D]
  const void *bias;                               // or null
  const int32_t *lengths;                         // [B], or null: an image has all skv keys
  int64_t bias_image, bias_head, bias_row;        // how far its numbers are apart, 0 where one serves all
  int32_t kv_heads;
};

// What the general kernels add to the others, which call none of it: their code stays as it was.
template <class P> struct General { enum { value = false }; };
template <> struct General<GeneralAttentionParams> { enum { value = true }; };

// The same for the block's image and head alone: what is its own is at k, v and bias, and skv is how many keys it has.
template <class T> DEVICE GeneralAttentionParams of_block(const GeneralAttentionParams &p) {
  const int image = blockIdx.y / p.heads, head = blockIdx.y % p.heads;
  const int64_t at = (int64_t)image * p.skv * p.kv_heads * p.d + head / (p.heads / p.kv_heads) * p.d;
  GeneralAttentionParams own = p;
  own.k = (const T *)p.k + at, own.v = (const T *)p.v + at;
  if (p.bias) own.bias = (const T *)p.bias + image * p.bias_image + head * p.bias_head;
  if (p.lengths) {
    const int n = p.lengths[image];
    own.skv = n < 0 ? 0 : n < p.skv ? n : p.skv;
  }
  return own;
}

// The largest of a query's scores as powers are taken relative to it. If every score so far is -inf, which a bias can
// make, all powers are to be 0 and not those of -inf + inf.
DEVICE float origin_of(float high) { return high == minus_infinity() ? 0.f : high; }
