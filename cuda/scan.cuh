// Sums of everything before: where parallel threads write to.
#pragma once

#include "launch.cuh"
#include "memory.cuh"

namespace densefield::cuda {

// The sum of the values of the block's threads before the calling one. All threads of the block
// must call it. partial: shared, [kBlock / kWarp].
__device__ inline uint32_t sum_of_threads_before(uint32_t value, uint32_t* partial) {
  const unsigned thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  uint32_t sum = value;
  for (unsigned distance = 1; distance < kWarp; distance *= 2) {
    const uint32_t before = __shfl_up_sync(~0u, sum, distance);
    if (lane >= distance) sum += before;
  }
  if (lane == kWarp - 1) partial[warp] = sum;
  __syncthreads();
  uint32_t offset = 0;
  for (unsigned w = 0; w < warp; ++w) offset += partial[w];
  __syncthreads();
  return offset + sum - value;
}

// values[i] becomes the sum of values[0 .. i-1], in place. Exact, so in any order the same;
// the total must fit 32 bits. Reads and writes every value twice.
void exclusive_scan(DeviceMemory& memory, int64_t count,
                    uint32_t* values);  // [count] in, out

}  // namespace densefield::cuda
