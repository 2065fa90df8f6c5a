// The denoising loop around the model. The definitions are in internal/ops/denoise.go; Note [Steps as numbers] is in sched.
//
//   state, out  [K N image]   float, K samples of N pictures
//   model       [B image]     of the target's type; with two sides the negative prompts' rows are first
//   step        coefficients, as sched.Step writes them
//
// All of them are bound by launching: latents are some 100 KB.
#include "machine.h"

enum { MAX_STATE = 6, SCALE = 0, GUIDANCE = 1, RESCALE = 2, CLEAN = 3, CLIP = 6, HEAD = 7, ROW = MAX_STATE + 3 };

struct SchedulerParams {
  const void *state, *model, *spread, *noise;
  const float *step;
  void *out;
  int64_t n, image;
  int32_t slots, sides;
};

// ops.ScaleModelInput
template <class T> DEVICE void scale_model_input(const SchedulerParams &p) {
  const float *state = (const float *)p.state, scale = p.step[SCALE];
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < p.n; i += (int64_t)gridDim.x * 256)
    for (int side = 0; side < p.sides; side++) from_float(state[i] * scale, ((T *)p.out)[side * p.n + i]);
}

template <class T> DEVICE float guided(const SchedulerParams &p, int64_t i) {
  const T *model = (const T *)p.model;
  float negative = to_float(model[i]);
  return negative + p.step[GUIDANCE] * (to_float(model[p.n + i]) - negative);
}

// The sum of v over 256 threads, for all of them, added in the same order each time. shared holds 8 floats.
DEVICE float block_sum(float v, float *shared) {
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  block_sync(); // shared has been read
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  block_sync();
  v = 0;
  for (int i = 0; i < 8; i++) v += shared[i];
  return v;
}

// The standard deviation, over n-1, of what f gives for a picture.
template <class F> DEVICE float spread(int64_t n, float *shared, F f) {
  float sum = 0, square = 0;
  for (int64_t i = threadIdx.x; i < n; i += 256) sum += f(i);
  const float mean = block_sum(sum, shared) / (float)n;
  for (int64_t i = threadIdx.x; i < n; i += 256) {
    float d = f(i) - mean;
    square += d * d;
  }
  return sqrtf(block_sum(square, shared) / (float)(n - 1));
}

// ops.GuidanceSpread
//   grid  N
//   block 256 threads
template <class T> DEVICE void guidance_spread(const SchedulerParams &p) {
  float *shared = (float *)shared_memory();
  const float rescale = p.step[RESCALE];
  float factor = 1;
  if (rescale != 0.f) {
    const int64_t first = (int64_t)blockIdx.x * p.image;
    const T *positive = (const T *)p.model + p.n + first;
    float wanted = spread(p.image, shared, [&](int64_t i) { return to_float(positive[i]); });
    float is = spread(p.image, shared, [&](int64_t i) { return guided<T>(p, first + i); });
    factor = rescale * (wanted / is) + (1.f - rescale);
  }
  if (threadIdx.x == 0) ((float *)p.out)[blockIdx.x] = factor;
}

// ops.SchedulerStep. out may be state: a thread has read all it needs of an element before it writes.
template <class T> DEVICE void scheduler_step(const SchedulerParams &p) {
  const float *state = (const float *)p.state, *step = p.step, clip = step[CLIP];
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < p.n; i += (int64_t)gridDim.x * 256) {
    const float output = p.sides == 2 ? guided<T>(p, i) * ((const float *)p.spread)[i / p.image] : to_float(((const T *)p.model)[i]);
    float old[MAX_STATE];
#pragma unroll
    for (int k = 0; k < MAX_STATE; k++) old[k] = k < p.slots ? state[k * p.n + i] : 0.f;
    float clean = (step[CLEAN] * old[0] + step[CLEAN + 1] * output) / step[CLEAN + 2];
    clean = clean < -clip ? -clip : clean > clip ? clip : clean;
    for (int j = 0; j < p.slots; j++) {
      const float *row = step + HEAD + j * ROW;
      float sum = row[MAX_STATE] * output + row[MAX_STATE + 1] * clean;
#pragma unroll
      for (int k = 0; k < MAX_STATE; k++)
        if (k < p.slots) sum += row[k] * old[k];
      if (p.noise && row[MAX_STATE + 2] != 0.f) sum += row[MAX_STATE + 2] * ((const float *)p.noise)[i];
      ((float *)p.out)[j * p.n + i] = sum;
    }
  }
}

// ops.NonFinite: model and state have image and n elements.
//   grid  64: a flag each of both rows
//   block 256 threads
template <class T> DEVICE void non_finite(const SchedulerParams &p) {
  float *shared = (float *)shared_memory(), model = 0, state = 0;
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < p.image; i += (int64_t)gridDim.x * 256) {
    float v = to_float(((const T *)p.model)[i]);
    if (v - v != 0.f) model = 1;
  }
  for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < p.n; i += (int64_t)gridDim.x * 256) {
    float v = ((const float *)p.state)[i];
    if (v - v != 0.f) state = 1;
  }
  model = block_sum(model, shared), state = block_sum(state, shared);
  if (threadIdx.x != 0) return;
  ((float *)p.out)[blockIdx.x] = model, ((float *)p.out)[gridDim.x + blockIdx.x] = state;
}

#define SCHEDULER(T, name)                                                                                             \
  KERNEL(scale_model_input_##name, SchedulerParams, 256) { scale_model_input<T>(p); }                                  \
  KERNEL(guidance_spread_##name, SchedulerParams, 256) { guidance_spread<T>(p); }                                      \
  KERNEL(scheduler_step_##name, SchedulerParams, 256) { scheduler_step<T>(p); }                                        \
  KERNEL(non_finite_##name, SchedulerParams, 256) { non_finite<T>(p); }

SCHEDULER(float, f32)
SCHEDULER(f16, f16)
SCHEDULER(bf16, bf16)
