// The fused update of mean field: slice, compatibility and softmax in one kernel, then the splat
// of the new marginals, which gathers and so needs all of them first.
#include "steps.cuh"
#include "update.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
std::vector<UpdateMessage<T>> messages_of(const MeanFieldPass<T>& pass) {
  std::vector<UpdateMessage<T>> messages;
  if (!pass.has_messages) return messages;
  for (std::size_t m = 0; m < pass.kernels.size(); ++m) {
    const LatticeKernel<T>& kernel = pass.kernels[m];
    messages.push_back({message_of(as_cuda(*kernel.lattice), *pass.vertices[m], kernel.post),
                        kernel.self.data(), pass.compatibility[m].form,
                        pass.compatibility[m].values.data()});
  }
  return messages;
}

}  // namespace

template <typename T>
T mean_field_pass(DeviceMemory& memory, const MeanFieldPass<T>& pass) {
  CudaUpdateScratch<T>& scratch = as_cuda(*pass.scratch);
  T* const marginals = pass.marginals != nullptr ? pass.marginals : scratch.marginals.data();
  Update<T> update{};
  update.num_nodes = pass.layout->num_nodes();
  update.num_labels = pass.num_labels;
  update.unary = pass.unary;
  update.energy = pass.energy;
  update.previous = pass.previous;
  // Scores take the place of the last marginals, which nothing reads.
  (pass.wants_scores ? update.scores : update.marginals) = marginals;
  const T change = run_update(memory, update, messages_of(pass), pass.wants_change, scratch);
  if (pass.result != nullptr) store_rows<T>(memory, marginals, *pass.result);
  if (pass.splats)
    for (std::size_t m = 0; m < pass.kernels.size(); ++m)
      splat<T>(memory, as_cuda(*pass.kernels[m].lattice), marginals, pass.kernels[m].pre.data(),
               as_cuda(*pass.vertices[m]));
  return change;
}

template float mean_field_pass(DeviceMemory&, const MeanFieldPass<float>&);
template double mean_field_pass(DeviceMemory&, const MeanFieldPass<double>&);

}  // namespace densefield::cuda
