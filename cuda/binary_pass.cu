// The update of a field with two labels, on one number per node: messages, scores and what the
// next splat takes in one kernel, then that splat. Limited by reading vertices.
#include <algorithm>

#include "../cpp/core/softmax.h"
#include "launch.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void score_kernel(const T* unary,  // (label, node) at their strides
                             int64_t label_stride, int64_t node_stride, int64_t num_nodes,
                             T* score) {  // [N] out
  const int64_t i = item_of_thread();
  if (i < num_nodes) score[i] = unary[i * node_stride] - unary[label_stride + i * node_stride];
}

// The message of one kernel.
template <typename T>
struct BinaryMessage {
  const T* values;        // [M]
  const T* weight;        // [N, corners]
  const int32_t* corner;  // [N, corners]
  const T* post;          // [N]
  int corners;
  T coupling;
};

template <typename T>
struct BinaryUpdate {
  static constexpr int kMaxMessages = 4;  // more are done in several kernels

  int64_t num_nodes;
  int num_messages;
  BinaryMessage<T> message[kMaxMessages];
  const T* score;  // [N] so far
  T* scores;       // [N] out, for more messages; or nullptr
  T* difference;   // [N] out, q_1 - q_0; or nullptr
  T* marginals;    // [N, 2] out; or nullptr

  template <typename Visit>
  void for_pointers(Visit visit) const {
    for (int m = 0; m < num_messages; ++m) {
      visit(message[m].values);
      visit(message[m].weight);
      visit(message[m].corner);
      visit(message[m].post);
    }
    visit(score);
    visit(scores);
    visit(difference);
    visit(marginals);
  }
};

template <typename T>
__global__ void binary_update_kernel(BinaryUpdate<T> update) {
  const int64_t i = item_of_thread();
  if (i >= update.num_nodes) return;
  T score = update.score[i];
  for (int m = 0; m < update.num_messages; ++m) {
    const BinaryMessage<T>& from = update.message[m];
    T message = T(0);
    for (int64_t entry = i * from.corners; entry < (i + 1) * from.corners; ++entry)
      message += from.weight[entry] * from.values[from.corner[entry]];
    score -= from.coupling * (from.post[i] * message);
  }
  if (update.scores != nullptr) update.scores[i] = score;
  const BinaryMarginals<T> q = binary_marginals(score);
  if (update.difference != nullptr) update.difference[i] = q.difference;
  if (update.marginals == nullptr) return;
  update.marginals[2 * i] = q.marginal_0;
  update.marginals[2 * i + 1] = q.marginal_1;
}

template <typename T>
std::vector<BinaryMessage<T>> messages_of(const BinaryPass<T>& pass) {
  std::vector<BinaryMessage<T>> messages;
  if (!pass.has_messages) return messages;
  for (std::size_t m = 0; m < pass.kernels.size(); ++m) {
    const CudaLattice<T>& lattice = as_cuda(*pass.kernels[m].lattice);
    messages.push_back({as_cuda(*pass.vertices[m]).values.data(), lattice.weight.data(),
                        lattice.corner.data(), pass.kernels[m].post.data(), lattice.corners,
                        pass.coupling[m]});
  }
  return messages;
}

// Runs `last` with all messages; those that one kernel cannot take come first.
template <typename T>
void run_update(DeviceMemory& memory, BinaryUpdate<T> last,
                const std::vector<BinaryMessage<T>>& messages) {
  constexpr std::size_t kMost = BinaryUpdate<T>::kMaxMessages;
  Buffer<T> scores;
  for (std::size_t next = 0; next == 0 || next < messages.size(); next += kMost) {
    const bool is_last = messages.size() - next <= kMost;
    BinaryUpdate<T> update = last;
    update.num_messages = static_cast<int>(std::min(kMost, messages.size() - next));
    std::copy_n(messages.begin() + static_cast<std::ptrdiff_t>(next), update.num_messages,
                update.message);
    if (!is_last) {
      if (scores.is_empty()) scores = Buffer<T>(memory, last.num_nodes);
      update.scores = scores.data();
      update.difference = update.marginals = nullptr;
      last.score = scores.data();
    }
    launch("binary_update_kernel", binary_update_kernel<T>, one_each(last.num_nodes),
           memory.stream(), update);
  }
}

}  // namespace

template <typename T>
void binary_score(DeviceMemory& memory, NodeView<const T> unary, T* score) {
  if (unary.num_nodes == 0) return;
  const DeviceView<T> from = bring_to_device(memory, unary);
  launch("score_kernel", score_kernel<T>, one_each(unary.num_nodes), memory.stream(),
         from.view.data, from.view.channel_stride, from.view.node_stride, unary.num_nodes, score);
}

template <typename T>
void binary_pass(DeviceMemory& memory, const BinaryPass<T>& pass) {
  const int64_t num_nodes = pass.layout->num_nodes();
  if (num_nodes == 0) return;
  BinaryUpdate<T> update{};
  update.num_nodes = num_nodes;
  update.score = pass.score;
  Buffer<T> marginals;
  if (pass.result != nullptr) {
    marginals = Buffer<T>(memory, 2 * num_nodes);
    update.marginals = marginals.data();
  }
  const bool splats = pass.splats && !pass.kernels.empty();
  if (splats) {
    // Kept with the first kernel's vertices: it is allocated before the first update only.
    Buffer<T>& difference = as_cuda(*pass.vertices[0]).marginals;
    if (difference.is_empty()) difference = Buffer<T>(memory, num_nodes);
    update.difference = difference.data();
  }
  run_update(memory, update, messages_of(pass));
  if (pass.result != nullptr) store_rows<T>(memory, marginals.data(), *pass.result);
  if (!splats) return;
  for (std::size_t m = 0; m < pass.kernels.size(); ++m)
    splat<T>(memory, as_cuda(*pass.kernels[m].lattice), update.difference,
             pass.kernels[m].pre.data(), as_cuda(*pass.vertices[m]));
}

#define DF_INSTANTIATE(T)                                           \
  template void binary_score(DeviceMemory&, NodeView<const T>, T*); \
  template void binary_pass(DeviceMemory&, const BinaryPass<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
