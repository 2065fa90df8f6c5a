// The epilogue of the tensor cores' kernels: eight columns at a time.
#pragma once
#include "epilogue.h"

struct alignas(16) Four { float at[4]; };
struct alignas(16) Words { uint32_t at[4]; };

// Eight numbers.
template <class T> DEVICE void load_eight(const T *from, float (&v)[8]) {
  const Words w = *(const Words *)from;
#pragma unroll
  for (int i = 0; i < 4; i++) v[2 * i] = to_float(T{(uint16_t)w.at[i]}), v[2 * i + 1] = to_float(T{(uint16_t)(w.at[i] >> 16)});
}

DEVICE void load_eight(const float *from, float (&v)[8]) {
  const Four l = ((const Four *)from)[0], h = ((const Four *)from)[1];
#pragma unroll
  for (int i = 0; i < 4; i++) v[i] = l.at[i], v[4 + i] = h.at[i];
}

template <class T> DEVICE void store_eight(T *to, const float (&v)[8]) {
  Words w;
#pragma unroll
  for (int i = 0; i < 4; i++) w.at[i] = pack2(v[2 * i], v[2 * i + 1], T());
  *(Words *)to = w;
}

DEVICE void store_eight(float *to, const float (&v)[8]) {
  ((Four *)to)[0] = Four{v[0], v[1], v[2], v[3]}, ((Four *)to)[1] = Four{v[4], v[5], v[6], v[7]};
}

// Two numbers at an even place.
template <class T> DEVICE void store_two(T *to, float a, float b) { *(uint32_t *)to = pack2(a, b, T()); }
DEVICE void store_two(float *to, float a, float b) { to[0] = a, to[1] = b; }

DEVICE void add_four(float *v, const float *from) {
  const Four f = *(const Four *)from;
#pragma unroll
  for (int i = 0; i < 4; i++) v[i] += f.at[i];
}

DEVICE void activate_eight(int act, float (&v)[8]) {
  if (act == SILU || act == QUICK_GELU) {
    const float slope = act == SILU ? 1.f : 1.702f;
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = v[i] / (1.f + expf(-slope * v[i]));
  } else if (act == GELU) {
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = gelu(v[i]);
  }
}

// A column and its gate, four times.
template <class T> DEVICE void finish_gated(const GemmParams &p, int row, int column, float (&v)[8]) {
  const int half = p.n / 2, at = column / 2;
  float y[4], gate[4];
#pragma unroll
  for (int i = 0; i < 4; i++) y[i] = v[2 * i], gate[i] = v[2 * i + 1];
  if (p.bias) add_four(y, p.bias + at), add_four(gate, p.bias + half + at);
#pragma unroll
  for (int i = 0; i < 4; i++) y[i] *= gelu(gate[i]);
  const T *residual = (const T *)p.residual;
  const int64_t to = (int64_t)row * half + at;
#pragma unroll
  for (int i = 0; i < 4; i += 2) { // pairs: four numbers are eight bytes
    if (residual) y[i] += to_float(residual[to + i]), y[i + 1] += to_float(residual[to + i + 1]);
    store_two((T *)p.out + to + i, y[i], y[i + 1]);
  }
}

// Finishes and stores eight columns of a row; column is a multiple of 8.
template <class T> DEVICE void finish_eight(const GemmParams &p, int row, int column, float (&v)[8]) {
  if (row >= p.m || column >= p.n) return;
  if (p.n & (p.act == GEGLU ? 15 : 7)) { // rows of the result are not aligned
#pragma unroll
    for (int i = 0; i < 8; i += 2) store_pair<T>(p, row, column + i, v[i], v[i + 1]);
    return;
  }
  if (p.act == GEGLU) return finish_gated<T>(p, row, column, v);
  if (p.bias) add_four(v, p.bias + column), add_four(v + 4, p.bias + column + 4);
  float more[8];
  if (p.offsets) {
    load_eight((const T *)p.offsets + (int64_t)(row / p.out_pixels) * p.n + column, more);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] += more[i];
  }
  activate_eight(p.act, v);
  const int64_t at = (int64_t)row * p.n + column;
  if (p.residual) {
    load_eight((const T *)p.residual + at, more);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] += more[i];
  }
  store_eight((T *)p.out + at, v);
}

// Stores or, of a product in parts, sets aside eight columns of a row.
template <class T> DEVICE void put_eight(const GemmParams &p, int part, int row, int column, float (&v)[8]) {
  if (p.splits == 1) return finish_eight<T>(p, row, column, v);
  if (row >= p.m || column >= p.n) return;
  Four *to = (Four *)(p.partial + ((int64_t)part * p.m + row) * p.n + column);
  to[0] = Four{v[0], v[1], v[2], v[3]}, to[1] = Four{v[4], v[5], v[6], v[7]};
}
