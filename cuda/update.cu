#include <algorithm>

#include "../cpp/core/softmax.h"
#include "reduce.cuh"
#include "update.cuh"

namespace densefield::cuda {
namespace {

// The larger one; NaN wins, so that a field of NaN does not count as converged.
template <typename T>
__device__ T larger_or_nan(T a, T b) {
  return a != a || b <= a ? a : b;
}

// score -= A_m message of node i. Lanes take channels in turn; only a matrix needs them all.
template <typename T>
__device__ void subtract_message(const Update<T>& update, const UpdateMessage<T>& m, int64_t i,
                                 unsigned mask,
                                 T* score,      // [L] in, out
                                 T* scratch) {  // [L]
  const int64_t labels = update.num_labels;
  for (int64_t c = threadIdx.x; c < labels; c += blockDim.x) {
    T value = T(0);
    if (m.weight == nullptr) value = m.values[i * labels + c];
    for (int k = 0; k < m.corners; ++k) {
      const int64_t entry = i * m.corners + k;
      value += m.weight[entry] * m.values[m.corner[entry] * labels + c];
    }
    if (m.post != nullptr) value *= m.post[i];
    if (m.self != nullptr) value -= m.self[i] * update.previous[i * labels + c];
    switch (m.form) {
      case CompatibilityForm::scalar: score[c] -= m.table[0] * value; break;
      case CompatibilityForm::vector: score[c] -= m.table[c] * value; break;
      case CompatibilityForm::matrix: scratch[c] = value;
    }
  }
  if (m.form != CompatibilityForm::matrix) return;
  __syncwarp(mask);
  for (int64_t c = threadIdx.x; c < labels; c += blockDim.x) {
    T sum = score[c];
    for (int64_t l = 0; l < labels; ++l) sum -= scratch[l] * m.table[l * labels + c];
    score[c] = sum;
  }
  __syncwarp(mask);
}

// marginals = softmax(score) of node i; returns the largest change if it is asked for.
template <typename T>
__device__ T take_softmax(const Update<T>& update, int64_t i, unsigned mask,
                          T* score) {  // [L] in, spoiled
  const int64_t labels = update.num_labels, first = i * labels;
  T largest = score[threadIdx.x < labels ? threadIdx.x : 0];
  for (int64_t c = threadIdx.x; c < labels; c += blockDim.x) largest = larger(largest, score[c]);
  __syncwarp(mask);  // a lane without a channel of its own has read another's
  largest = reduce_group(largest, mask, [](T a, T b) { return larger(a, b); });
  T sum = T(0);
  for (int64_t c = threadIdx.x; c < labels; c += blockDim.x) {
    score[c] = softmax_term(score[c], largest);
    sum += score[c];
  }
  sum = sum_of_group(sum, mask);
  const T inverse = T(1) / sum;
  T change = T(0);
  for (int64_t c = threadIdx.x; c < labels; c += blockDim.x) {
    const T marginal = score[c] * inverse;
    if (update.change != nullptr) {
      const T step = marginal - update.previous[first + c];
      change = larger_or_nan(change, larger(step, -step));
    }
    update.marginals[first + c] = marginal;
  }
  return change;
}

// Without the sign, which a NaN may have.
__device__ inline unsigned long long bits_of_size(float x) {
  return __builtin_bit_cast(uint32_t, x) & 0x7FFFFFFFu;
}
__device__ inline unsigned long long bits_of_size(double x) {
  return __builtin_bit_cast(unsigned long long, x) & 0x7FFFFFFFFFFFFFFFull;
}

// One group of lanes for a node at a time. Limited by reading vertices, and for a matrix by
// arithmetic. working: [groups of the grid, 2 L] where shared memory does not suffice.
template <typename T>
__global__ void update_kernel(Update<T> update, T* working) {
  DF_DYNAMIC_SHARED(T, shared);
  const int64_t labels = update.num_labels;
  const unsigned mask = mask_of_group();
  T* score = working != nullptr ? working + row_of_group() * 2 * labels
                                : shared + threadIdx.y * 2 * labels;
  T* scratch = score + labels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  T change = T(0);
  for (int64_t i = row_of_group(); i < update.num_nodes; i += step) {
    const int64_t first = i * labels;
    for (int64_t c = threadIdx.x; c < labels; c += blockDim.x) {
      if (update.start != nullptr)
        score[c] = update.start[first + c];
      else if (update.energy != nullptr)
        score[c] = -update.unary[first + c] - update.energy[first + c];
      else
        score[c] = -update.unary[first + c];
    }
    for (int m = 0; m < update.messages.count; ++m)
      subtract_message(update, update.messages.message[m], i, mask, score, scratch);
    if (update.scores != nullptr)
      for (int64_t c = threadIdx.x; c < labels; c += blockDim.x)
        update.scores[first + c] = score[c];
    __syncwarp(mask);
    if (update.marginals != nullptr)
      change = larger_or_nan(change, take_softmax(update, i, mask, score));
    __syncwarp(mask);
  }
  if (update.change == nullptr) return;
  change = reduce_group(change, mask, [](T a, T b) { return larger_or_nan(a, b); });
  if (threadIdx.x == 0) atomicMax(update.change, bits_of_size(change));
}

constexpr int64_t kShared = 48 << 10;  // bytes that every device gives without asking

// Of what a group works in.
template <typename T>
int64_t group_bytes(int64_t num_labels) {
  return 2 * num_labels * static_cast<int64_t>(sizeof(T));
}

// Without enough shared memory, for thousands of labels: so few groups that their rows fit memory.
constexpr unsigned kWorkingGroups = 4, kWorkingBlocks = 64;
template <typename T>
int64_t working_size(int64_t num_labels) {
  if (group_bytes<T>(num_labels) <= kShared) return 0;
  return int64_t{kWorkingGroups} * kWorkingBlocks * 2 * num_labels;
}

template <typename T>
void launch_update(DeviceMemory& memory, const Update<T>& update, Buffer<T>& working) {
  constexpr unsigned kBlocksAtMost = 65536;
  LaunchShape shape = group_each(update.num_nodes, update.num_labels);
  if (!working.is_empty()) {
    shape.block.y = kWorkingGroups;
    shape.grid.x = kWorkingBlocks;
  } else {
    const int64_t bytes = group_bytes<T>(update.num_labels), fitting = kShared / bytes;
    if (fitting < shape.block.y) shape.block.y = static_cast<unsigned>(fitting);
    const int64_t blocks = (update.num_nodes + shape.block.y - 1) / shape.block.y;
    shape.grid.x = static_cast<unsigned>(std::min<int64_t>(blocks, kBlocksAtMost));
    shape.shared_bytes = static_cast<std::size_t>(shape.block.y * bytes);
  }
  launch("update_kernel", update_kernel<T>, shape, memory.stream(), update, working.data());
}

template <typename T>
T download_change(DeviceMemory& memory, const Buffer<unsigned long long>& change) {
  unsigned long long bits = 0;
  download(memory, change.data(), 1, &bits);
  if constexpr (sizeof(T) == sizeof(double))
    return __builtin_bit_cast(T, bits);
  else
    return __builtin_bit_cast(T, static_cast<uint32_t>(bits));
}

}  // namespace

template <typename T>
CudaUpdateScratch<T>::CudaUpdateScratch(DeviceMemory& memory, int64_t num_nodes,
                                        int64_t num_channels, std::size_t num_kernels)
    : change(memory, 1) {
  if (num_kernels > MessageBatch<UpdateMessage<T>>::kMost)
    scores = Buffer<T>(memory, num_nodes * num_channels);
  if (working_size<T>(num_channels) > 0) working = Buffer<T>(memory, working_size<T>(num_channels));
}

template <typename T>
T run_update(DeviceMemory& memory, Update<T> update, const std::vector<UpdateMessage<T>>& messages,
             bool wants_change, CudaUpdateScratch<T>& scratch) {
  if (update.num_nodes * update.num_labels == 0) return T(0);
  if (wants_change) {
    clear(memory, scratch.change);
    update.change = scratch.change.data();
  }
  run_in_batches(update, messages, scratch.scores.data(),
                 [&](const Update<T>& part) { launch_update(memory, part, scratch.working); });
  return wants_change ? download_change<T>(memory, scratch.change) : T(0);
}

#define DF_INSTANTIATE(T)                                                                     \
  template class CudaUpdateScratch<T>;                                                        \
  template T run_update(DeviceMemory&, Update<T>, const std::vector<UpdateMessage<T>>&, bool, \
                        CudaUpdateScratch<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
