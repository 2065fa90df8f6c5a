// What is done to a product before it is stored.
#pragma once
#include "machine.h"

enum Activation { NONE, SILU, GELU, QUICK_GELU, GEGLU }; // as in internal/cpu

DEVICE float gelu(float x) { return 0.5f * x * (1.f + erff(x * 0.70710678f)); }

DEVICE float activate(int act, float x) {
  switch (act) {
  case SILU: return x / (1.f + expf(-x));
  case GELU: return gelu(x);
  case QUICK_GELU: return x / (1.f + expf(-1.702f * x));
  }
  return x;
}

// A matrix product x w^T, or a convolution as one: row r of x is then what the filter sees at output pixel r.
struct GemmParams {
  const void *x;        // [m k], or an image [images height width channels]
  const void *w;        // [n k], k = taps * channels, a tap's channels together
  const float *bias;    // [n] or null
  const void *offsets;  // [images n] or null: added to all pixels of an image
  const void *residual; // like out, or null
  void *out;            // [m n], with GEGLU [m n/2]
  int32_t m, n, k, act;
  int32_t height, width, channels, kh, kw, stride, up, pad_top, pad_left; // of a convolution; up is 1 or 2
  int32_t out_width, out_pixels;                                          // and of its result
  int32_t splits;                                                         // parts of k, each a product of its own
  float *partial;                                                         // [splits m n], of them, if there are several
};

// With GEGLU a column is followed by its gate: columns 2j and 2j+1 of the product are rows j and j+n/2 of w.
DEVICE int weight_row(const GemmParams &p, int column) {
  return p.act == GEGLU ? (column & 1) * (p.n / 2) + (column >> 1) : column;
}

// A column with what is added before the activation.
template <class T> DEVICE float with_bias(const GemmParams &p, int row, int column, float sum) {
  if (p.bias) sum += p.bias[weight_row(p, column)];
  if (p.offsets) sum += to_float(((const T *)p.offsets)[(int64_t)(row / p.out_pixels) * p.n + column]);
  return sum;
}

// Stores columns column and column+1 of a row; column is even.
template <class T> DEVICE void store_pair(const GemmParams &p, int row, int column, float a, float b) {
  if (row >= p.m || column >= p.n) return;
  T *out = (T *)p.out;
  const T *residual = (const T *)p.residual;
  a = with_bias<T>(p, row, column, a);
  if (p.act == GEGLU) {
    int64_t at = (int64_t)row * (p.n / 2) + column / 2;
    a *= gelu(with_bias<T>(p, row, column + 1, b));
    from_float(residual ? a + to_float(residual[at]) : a, out[at]);
    return;
  }
  int64_t at = (int64_t)row * p.n + column;
  a = activate(p.act, a);
  from_float(residual ? a + to_float(residual[at]) : a, out[at]);
  if (column + 1 == p.n) return;
  b = activate(p.act, with_bias<T>(p, row, column + 1, b));
  from_float(residual ? b + to_float(residual[at + 1]) : b, out[at + 1]);
}
