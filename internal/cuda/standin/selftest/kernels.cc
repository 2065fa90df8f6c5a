// What the emulation sees inside kernels, and whether it computes right.
#include <math.h>
#include <string.h>

#include "selftest.h"

static float of_half(uint16_t h) {
  int e = h >> 10 & 31, f = h & 1023;
  float v = e ? ldexpf((float)(1024 + f), e - 25) : ldexpf((float)f, -24);
  return h & 0x8000 ? -v : v;
}

static float of_brain(uint16_t b) {
  uint32_t u = (uint32_t)b << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

static void product(const char *name, float (*number)(uint16_t), uint16_t one) {
  finds(std::string("a tile of ") + name, "", [=] {
    uint16_t *in = (uint16_t *)host;
    uint32_t seed = 1;
    for (int i = 0; i < 384; i++) {
      seed = seed * 1664525 + 1013904223;
      in[i] = one ^ (seed >> 16 & 0x83c0); // about one, either sign
    }
    MUST(cuMemcpyHtoD(device, host, 768));
    launch(function(name), Params{other, device, 0}, compute, 768, 32);
    float got[128];
    MUST(cuStreamSynchronize(compute));
    MUST(cuMemcpyDtoH(got, other, sizeof got));
    bool same = true;
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 8; j++) {
        double sum = 0;
        for (int k = 0; k < 16; k++) sum += (double)number(in[i * 16 + k]) * number(in[256 + k * 8 + j]);
        same = same && fabs(sum - got[i * 8 + j]) <= 1e-4 * (1 + fabs(sum));
      }
    check(std::string("a tile of ") + name + " is the product", same);
  });
}

void kernels() {
  struct { const char *kernel, *text; unsigned shared, n; } cases[] = {
      {"race", "race in shared memory", 512, 0},
      {"warps", "", 512, 0},
      {"diverge", "wait in different places", 0, 0},
      {"meet", "meet in different places", 0, 0},
      {"hasty", "while an asynchronous copy to it is under way", 2048, 0},
      {"patient", "", 2048, 0},
      {"overflow", "of 512 bytes of shared memory", 512, 1},
      {"crooked", "which is not a multiple of it", 0, 0},
      {"foreign", "which is no memory of the device", 0, 64},
  };
  for (auto &c : cases)
    finds(std::string("kernel ") + c.kernel, c.text, [&] { launch(function(c.kernel), Params{device, other, c.n}, compute, c.shared); });
  finds("an error in a kernel ruins the context", "which is not a multiple", [] {
    launch(function("crooked"), Params{device, other, 0}, compute);
    check("the code is that of the error", cuStreamSynchronize(compute) == CUDA_ERROR_MISALIGNED_ADDRESS);
  });
  product("product_f16", of_half, 0x3c00);
  product("product_bf16", of_brain, 0x3f80);
}
