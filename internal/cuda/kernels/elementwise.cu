// Pointwise work and data movement. The op that defines a kernel is named beside it.
//
//   grid  as many blocks as cover the elements of out, at most 65,535; a thread strides over the rest
//   block 256 threads
//
// All of them are bound by memory: the least is one pass over what they read and write.
#include "epilogue.h"

// One struct serves all: a, b and c are what is read, n the elements of out.
struct ElementwiseParams {
  const void *a, *b, *c;
  void *out;
  int64_t n, image;            // image: elements of an image of out
  int32_t channels, other;     // of out; of a
  int32_t height, width, act;  // of out
  int32_t flip;
  float shift;
};

template <class F> DEVICE void each(const ElementwiseParams &p, F f) {
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < p.n; i += (int64_t)gridDim.x * 256) f(i);
}

// elem.Add
template <class T> DEVICE void add(const ElementwiseParams &p) {
  each(p, [&](int64_t i) { from_float(to_float(((const T *)p.a)[i]) + to_float(((const T *)p.b)[i]), ((T *)p.out)[i]); });
}

// elem.AddChannels: a [B ... C] + b [B C]
template <class T> DEVICE void add_channels(const ElementwiseParams &p) {
  each(p, [&](int64_t i) {
    float offset = to_float(((const T *)p.b)[i / p.image * p.channels + i % p.channels]);
    from_float(to_float(((const T *)p.a)[i]) + offset, ((T *)p.out)[i]);
  });
}

// elem.Activate
template <class T> DEVICE void activate_all(const ElementwiseParams &p) {
  each(p, [&](int64_t i) {
    const T *a = (const T *)p.a;
    if (p.act != GEGLU) {
      from_float(activate(p.act, to_float(a[i])), ((T *)p.out)[i]);
      return;
    }
    int64_t at = i / p.channels * 2 * p.channels + i % p.channels;
    from_float(to_float(a[at]) * gelu(to_float(a[at + p.channels])), ((T *)p.out)[i]);
  });
}

// elem.Concat: a [... OTHER], b [... C-OTHER]
template <class T> DEVICE void concat(const ElementwiseParams &p) {
  each(p, [&](int64_t i) {
    int64_t row = i / p.channels;
    int c = (int)(i % p.channels), rest = p.channels - p.other;
    ((T *)p.out)[i] = c < p.other ? ((const T *)p.a)[row * p.other + c] : ((const T *)p.b)[row * rest + c - p.other];
  });
}

// ops.Upsample: a [B (H+1)/2 (W+1)/2 C]
template <class T> DEVICE void upsample(const ElementwiseParams &p) {
  each(p, [&](int64_t i) {
    int c = (int)(i % p.channels), x = (int)(i / p.channels % p.width), y = (int)(i / p.channels / p.width % p.height);
    int64_t b = i / p.image;
    int64_t from = ((b * ((p.height + 1) / 2) + y / 2) * ((p.width + 1) / 2) + x / 2) * p.channels + c;
    ((T *)p.out)[i] = ((const T *)p.a)[from];
  });
}

// elem.Embed: a [B S] int32, b [V C], c [S' C]; an image is a sequence
template <class T> DEVICE void embed(const ElementwiseParams &p) {
  each(p, [&](int64_t i) {
    int64_t token = ((const int32_t *)p.a)[i / p.channels], at = i % p.image;
    from_float(to_float(((const T *)p.b)[token * p.channels + i % p.channels]) + to_float(((const T *)p.c)[at]), ((T *)p.out)[i]);
  });
}

// elem.Pick: a [B OTHER C], b [B] int32
template <class T> DEVICE void pick(const ElementwiseParams &p) {
  each(p, [&](int64_t i) {
    int64_t b = i / p.channels;
    ((T *)p.out)[i] = ((const T *)p.a)[(b * p.other + ((const int32_t *)p.b)[b]) * p.channels + i % p.channels];
  });
}

// elem.Timesteps: a [B N] float, out [B N*C]. Exponent and product are rounded to float as torch does: near 1000 a
// rounding of the frequency is seen in the sine.
template <class T> DEVICE void timesteps(const ElementwiseParams &p) {
  each(p, [&](int64_t i) {
    int half = p.channels / 2, j = (int)(i % p.channels);
    float power = -9.210340371976184f * (float)(j % half) / ((float)half - p.shift);
    float x = ((const float *)p.a)[i / p.channels] * (float)exp((double)power);
    from_float((j < half) == (p.flip != 0) ? cosf(x) : sinf(x), ((T *)p.out)[i]);
  });
}

#define ELEMENTWISE(T, name)                                                                                           \
  KERNEL(add_##name, ElementwiseParams, 256) { add<T>(p); }                                                            \
  KERNEL(add_channels_##name, ElementwiseParams, 256) { add_channels<T>(p); }                                          \
  KERNEL(activate_##name, ElementwiseParams, 256) { activate_all<T>(p); }                                              \
  KERNEL(concat_##name, ElementwiseParams, 256) { concat<T>(p); }                                                      \
  KERNEL(upsample_##name, ElementwiseParams, 256) { upsample<T>(p); }                                                  \
  KERNEL(embed_##name, ElementwiseParams, 256) { embed<T>(p); }                                                        \
  KERNEL(pick_##name, ElementwiseParams, 256) { pick<T>(p); }                                                          \
  KERNEL(timesteps_##name, ElementwiseParams, 256) { timesteps<T>(p); }

ELEMENTWISE(float, f32)
ELEMENTWISE(f16, f16)
ELEMENTWISE(bf16, bf16)
