#include <utility>

#include "scan.cuh"
#include "sort.cuh"

namespace densefield::cuda {
namespace {

constexpr int kDigitBits = 4;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kPerThread = 8;  // neighbouring pairs
constexpr int kTile = kBlock * kPerThread;

__device__ inline int digit_of(uint64_t key, int shift) {
  return static_cast<int>(key >> shift) & (kDigits - 1);
}

__global__ void count_digits_kernel(const uint64_t* key,  // [count]
                                    int64_t count, int shift,
                                    uint32_t* counts) {  // [kDigits, tiles] out
  DF_SHARED(uint32_t, histogram, kDigits);
  if (threadIdx.x < kDigits) histogram[threadIdx.x] = 0;
  __syncthreads();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTile;
  for (int k = 0; k < kPerThread; ++k) {
    const int64_t i = first + k * kBlock + threadIdx.x;
    if (i < count) atomicAdd(&histogram[digit_of(key[i], shift)], 1u);
  }
  __syncthreads();
  if (threadIdx.x < kDigits)
    counts[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x] = histogram[threadIdx.x];
}

// A thread's own pairs are neighbours and keep their order; threads keep theirs by counting, for
// every digit, what the threads before them have.
__global__ void scatter_pairs_kernel(const uint64_t* key,     // [count]
                                     const int32_t* value,    // [count]
                                     const uint32_t* offset,  // [kDigits, tiles] scanned counts
                                     int64_t count, int shift,
                                     uint64_t* sorted_key,     // [count] out
                                     int32_t* sorted_value) {  // [count] out
  DF_SHARED(uint32_t, place, kDigits* kBlock);                 // by digit, then by thread
  DF_SHARED(uint32_t, digit_begin, kDigits);
  DF_SHARED(uint32_t, partial, kBlock / kWarp);
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTile + thread * kPerThread;
  for (int d = 0; d < kDigits; ++d) place[d * kBlock + thread] = 0;
  for (int k = 0; k < kPerThread; ++k)
    if (first + k < count) ++place[digit_of(key[first + k], shift) * kBlock + thread];
  __syncthreads();
  // kDigits neighbouring counters each: what was counted before them.
  uint32_t sum = 0;
  for (int k = 0; k < kDigits; ++k) sum += place[thread * kDigits + k];
  uint32_t before = sum_of_threads_before(sum, partial);
  for (int k = 0; k < kDigits; ++k) {
    const uint32_t own = place[thread * kDigits + k];
    place[thread * kDigits + k] = before;
    before += own;
  }
  __syncthreads();
  if (thread < kDigits) digit_begin[thread] = place[thread * kBlock];
  __syncthreads();
  for (int k = 0; k < kPerThread; ++k) {
    if (first + k >= count) break;
    const uint64_t own = key[first + k];
    const int digit = digit_of(own, shift);
    const uint32_t in_digit = place[digit * kBlock + thread]++ - digit_begin[digit];
    const int64_t to = offset[static_cast<int64_t>(digit) * gridDim.x + blockIdx.x] + in_digit;
    sorted_key[to] = own;
    sorted_value[to] = value[first + k];
  }
}

}  // namespace

void sort_pairs(DeviceMemory& memory, int num_bits, SortBuffers& pairs) {
  if (pairs.count == 0) return;
  const int64_t tiles = (pairs.count + kTile - 1) / kTile;
  const LaunchShape shape = one_each(tiles * kBlock);
  Buffer<uint32_t> counts(memory, kDigits * tiles);
  for (int shift = 0; shift < num_bits; shift += kDigitBits) {
    launch("count_digits_kernel", count_digits_kernel, shape, memory.stream(), pairs.key.data(),
           pairs.count, shift, counts.data());
    exclusive_scan(memory, counts.size(), counts.data());
    launch("scatter_pairs_kernel", scatter_pairs_kernel, shape, memory.stream(), pairs.key.data(),
           pairs.value.data(), counts.data(), pairs.count, shift, pairs.spare_key.data(),
           pairs.spare_value.data());
    std::swap(pairs.key, pairs.spare_key);
    std::swap(pairs.value, pairs.spare_value);
  }
}

}  // namespace densefield::cuda
