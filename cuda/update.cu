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
    for (int m = 0; m < update.num_messages; ++m)
      subtract_message(update, update.message[m], i, mask, score, scratch);
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

template <typename T>
void launch_update(DeviceMemory& memory, const Update<T>& update) {
  constexpr int64_t kShared = 48 << 10;  // bytes that every device gives without asking
  constexpr unsigned kBlocksAtMost = 65536;
  LaunchShape shape = group_each(update.num_nodes, update.num_labels);
  const int64_t group_bytes = 2 * update.num_labels * static_cast<int64_t>(sizeof(T));
  const int64_t fitting = kShared / group_bytes;
  Buffer<T> working;
  if (fitting == 0) {  // thousands of labels
    constexpr unsigned kGroups = 4, kBlocks = 64;
    shape.block.y = kGroups;
    shape.grid.x = kBlocks;
    working = Buffer<T>(memory, int64_t{kGroups} * kBlocks * 2 * update.num_labels);
  } else {
    if (fitting < shape.block.y) shape.block.y = static_cast<unsigned>(fitting);
    const int64_t blocks = (update.num_nodes + shape.block.y - 1) / shape.block.y;
    shape.grid.x = static_cast<unsigned>(std::min<int64_t>(blocks, kBlocksAtMost));
    shape.shared_bytes = static_cast<std::size_t>(shape.block.y * group_bytes);
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
T run_update(DeviceMemory& memory, Update<T> update, const std::vector<UpdateMessage<T>>& messages,
             bool wants_change) {
  if (update.num_nodes * update.num_labels == 0) return T(0);
  constexpr std::size_t kMost = Update<T>::kMaxMessages;
  Buffer<T> scratch;  // scores between two kernels
  std::size_t next = 0;
  const auto take_messages = [&] {
    update.num_messages = static_cast<int>(std::min(kMost, messages.size() - next));
    std::copy_n(messages.begin() + static_cast<std::ptrdiff_t>(next), update.num_messages,
                update.message);
    next += static_cast<std::size_t>(update.num_messages);
  };
  Update<T> last = update;
  while (messages.size() - next > kMost) {
    if (scratch.is_empty()) scratch = Buffer<T>(memory, update.num_nodes * update.num_labels);
    take_messages();
    update.scores = scratch.data();
    update.marginals = nullptr;
    launch_update(memory, update);
    update.start = last.start = scratch.data();
  }
  take_messages();
  last.num_messages = update.num_messages;
  std::copy_n(update.message, update.num_messages, last.message);
  Buffer<unsigned long long> change;
  if (wants_change) {
    change = Buffer<unsigned long long>(memory, 1);
    clear(memory, change);
    last.change = change.data();
  }
  launch_update(memory, last);
  return wants_change ? download_change<T>(memory, change) : T(0);
}

template float run_update(DeviceMemory&, Update<float>, const std::vector<UpdateMessage<float>>&,
                          bool);
template double run_update(DeviceMemory&, Update<double>, const std::vector<UpdateMessage<double>>&,
                           bool);

}  // namespace densefield::cuda
