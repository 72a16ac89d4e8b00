// The update of a field with two labels, on one number per node: messages, scores and what the
// next splat takes in one kernel, then that splat. Limited by reading vertices.
#include "../cpp/core/softmax.h"
#include "launch.cuh"
#include "steps.cuh"
#include "update_messages.cuh"
#include "update_scratch.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void score_kernel(const T* unary,  // (label, node) at their strides
                             int64_t label_stride, int64_t node_stride, int64_t num_nodes,
                             T* score) {  // [N] out
  const int64_t i = item_of_thread();
  if (i < num_nodes) score[i] = unary[i * node_stride] - unary[label_stride + i * node_stride];
}

// The message of one kernel and what it is multiplied by.
template <typename T>
struct BinaryMessage : KernelMessage<T> {
  T coupling;
};

template <typename T>
struct BinaryUpdate {
  int64_t num_nodes;
  MessageBatch<BinaryMessage<T>> messages;
  const T* start;  // [N] scores so far
  T* scores;       // [N] out, may be `start`; or nullptr
  T* difference;   // [N] out, q_1 - q_0; or nullptr
  T* marginals;    // (label, node) at their strides, out; or nullptr
  int64_t label_stride, node_stride;

  BinaryUpdate as_far_as_scores(T* to) const {
    BinaryUpdate part = *this;
    part.scores = to;
    part.difference = part.marginals = nullptr;
    return part;
  }

  template <typename Visit>
  void for_pointers(Visit visit) const {
    messages.for_pointers(visit);
    visit(start);
    visit(scores);
    visit(difference);
    visit(marginals);
  }
};

template <typename T>
__global__ void binary_update_kernel(BinaryUpdate<T> update) {
  const int64_t i = item_of_thread();
  if (i >= update.num_nodes) return;
  T score = update.start[i];
  for (int m = 0; m < update.messages.count; ++m) {
    const BinaryMessage<T>& from = update.messages.message[m];
    T message = T(0);
    for (int64_t entry = i * from.corners; entry < (i + 1) * from.corners; ++entry)
      message += from.weight[entry] * from.values[from.corner[entry]];
    score -= from.coupling * (from.post[i] * message);
  }
  if (update.scores != nullptr) update.scores[i] = score;
  const BinaryMarginals<T> q = binary_marginals(score);
  if (update.difference != nullptr) update.difference[i] = q.difference;
  if (update.marginals == nullptr) return;
  T* const marginals = update.marginals + i * update.node_stride;
  marginals[0] = q.marginal_0;
  marginals[update.label_stride] = q.marginal_1;
}

template <typename T>
std::vector<BinaryMessage<T>> messages_of(const BinaryPass<T>& pass) {
  std::vector<BinaryMessage<T>> messages;
  if (!pass.has_messages) return messages;
  for (std::size_t m = 0; m < pass.kernels.size(); ++m) {
    const LatticeKernel<T>& kernel = pass.kernels[m];
    messages.push_back(
        {message_of(as_cuda(*kernel.lattice), *pass.vertices[m], kernel.post), pass.coupling[m]});
  }
  return messages;
}

template <typename T>
void run_update(DeviceMemory& memory, const BinaryUpdate<T>& update,
                const std::vector<BinaryMessage<T>>& messages, CudaUpdateScratch<T>& scratch) {
  run_in_batches(update, messages, scratch.scores.data(), [&](const BinaryUpdate<T>& part) {
    launch("binary_update_kernel", binary_update_kernel<T>, one_each(part.num_nodes),
           memory.stream(), part);
  });
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
  CudaUpdateScratch<T>& scratch = as_cuda(*pass.scratch);
  BinaryUpdate<T> update{};
  update.num_nodes = num_nodes;
  update.start = pass.score;
  if (pass.splats) update.difference = scratch.marginals.data();
  const std::vector<BinaryMessage<T>> messages = messages_of(pass);
  if (pass.result == nullptr)
    run_update(memory, update, messages, scratch);
  else
    write_on_device(memory, *pass.result, [&](const NodeView<T>& result) {
      update.marginals = result.data;
      update.label_stride = result.channel_stride;
      update.node_stride = result.node_stride;
      run_update(memory, update, messages, scratch);
    });
  if (!pass.splats) return;
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
