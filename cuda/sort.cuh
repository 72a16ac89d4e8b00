// A stable sort of 64-bit keys with the numbers that travel with them.
#pragma once

#include "memory.cuh"

namespace densefield::cuda {

struct SortBuffers {
  SortBuffers(DeviceMemory& memory, int64_t size)
      : count(size),
        key(memory, size),
        value(memory, size),
        spare_key(memory, size),
        spare_value(memory, size) {}

  int64_t count;  // below 2^31
  Buffer<uint64_t> key;
  Buffer<int32_t> value;
  Buffer<uint64_t> spare_key;
  Buffer<int32_t> spare_value;
};

// Sorts by the lowest `num_bits` bits of the keys: four bits at a time, lowest first, each pass
// reading all pairs twice and writing them once. Same result in any order of threads.
void sort_pairs(DeviceMemory& memory, int num_bits, SortBuffers& pairs);

}  // namespace densefield::cuda
