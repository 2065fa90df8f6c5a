// The kernels of the contract suite, for the stand-in driver. For a device they are in kernels.ptx.h, by hand, so that
// they do not change with a compiler.
#include "machine.h"

struct ContractParams {
  uint32_t *out;
  uint32_t n, value;
};

KERNEL(contract_fill, ContractParams, 256) {
  uint32_t i = blockIdx.x * 256 + threadIdx.x;
  if (i < p.n) p.out[i] = p.value;
}

KERNEL(contract_add, ContractParams, 256) {
  uint32_t i = blockIdx.x * 256 + threadIdx.x;
  if (i < p.n) p.out[i] += p.value;
}

// Turns 256 numbers round, in the last 1,024 of n bytes of shared memory.
KERNEL(contract_reverse, ContractParams, 256) {
  uint32_t *s = (uint32_t *)(shared_memory() + p.n) - 256;
  s[threadIdx.x] = p.out[threadIdx.x];
  block_sync();
  p.out[threadIdx.x] = s[255 - threadIdx.x];
}

// On a device it runs for value million ticks of its clock; here work takes as long as the schedule says.
KERNEL(contract_spin, ContractParams, 256) { (void)p; }
