// Sums over all rows in an order that depends on their number alone: blocks leave partial sums,
// and the host adds those up.
#pragma once

#include <vector>

#include "launch.cuh"
#include "memory.cuh"

namespace densefield::cuda {

constexpr int64_t kRowsPerBlock = 16 * kBlock;

inline LaunchShape blocks_of_rows(int64_t num_rows) {
  return {dim3(static_cast<unsigned>((num_rows + kRowsPerBlock - 1) / kRowsPerBlock)),
          dim3(kBlock)};
}

// Calls term(row) for the rows of the calling thread, of a kernel in the shape of blocks_of_rows.
template <typename Term>
__device__ void for_rows(int64_t num_rows, Term term) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock;
  const int64_t end = first + kRowsPerBlock < num_rows ? first + kRowsPerBlock : num_rows;
  for (int64_t i = first + threadIdx.x; i < end; i += kBlock) term(i);
}

// The sum of the block's values, in one order. All threads must call it. shared: [kBlock].
__device__ inline double sum_of_block(double value, double* shared) {
  const unsigned t = threadIdx.x;
  shared[t] = value;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) shared[t] += shared[t + half];
  }
  __syncthreads();
  const double sum = shared[0];
  __syncthreads();
  return sum;
}

// Reductions over the lanes of a group, which all of them get.
template <typename T, typename Combine>
__device__ T reduce_group(T value, unsigned mask, Combine combine) {
  for (int flip = static_cast<int>(blockDim.x) / 2; flip > 0; flip /= 2)
    value = combine(value, __shfl_xor_sync(mask, value, flip));
  return value;
}
template <typename T>
__device__ T sum_of_group(T value, unsigned mask) {
  return reduce_group(value, mask, [](T a, T b) { return a + b; });
}

template <typename T>
std::vector<T> download_all(const DeviceMemory& memory, const Buffer<T>& buffer) {
  std::vector<T> values(static_cast<std::size_t>(buffer.size()));
  download(memory, buffer.data(), buffer.size(), values.data());
  return values;
}

}  // namespace densefield::cuda
