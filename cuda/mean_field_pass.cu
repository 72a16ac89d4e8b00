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
    const CudaLattice<T>& lattice = as_cuda(*kernel.lattice);
    messages.push_back({as_cuda(*pass.vertices[m]).values.data(), lattice.weight.data(),
                        lattice.corner.data(), lattice.corners, kernel.post.data(),
                        kernel.self.data(), pass.compatibility[m].form,
                        pass.compatibility[m].values.data()});
  }
  return messages;
}

// Where the marginals go if the caller keeps none: with the first kernel's vertices, so that
// they are allocated before the first update only; without kernels, for this pass.
template <typename T>
T* marginals_of(DeviceMemory& memory, const MeanFieldPass<T>& pass, Buffer<T>& temporary) {
  if (pass.marginals != nullptr) return pass.marginals;
  Buffer<T>& buffer = pass.vertices.empty() ? temporary : as_cuda(*pass.vertices[0]).marginals;
  if (buffer.is_empty()) buffer = Buffer<T>(memory, pass.layout->num_nodes() * pass.num_labels);
  return buffer.data();
}

}  // namespace

template <typename T>
T mean_field_pass(DeviceMemory& memory, const MeanFieldPass<T>& pass) {
  Buffer<T> temporary;
  T* marginals = marginals_of(memory, pass, temporary);
  Update<T> update{};
  update.num_nodes = pass.layout->num_nodes();
  update.num_labels = pass.num_labels;
  update.unary = pass.unary;
  update.energy = pass.energy;
  update.previous = pass.previous;
  // Scores take the place of the last marginals, which nothing reads.
  (pass.wants_scores ? update.scores : update.marginals) = marginals;
  const T change = run_update(memory, update, messages_of(pass), pass.wants_change);
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
