// The fused update of mean field with window kernels: messages, then compatibility and softmax.
#include "layout.cuh"
#include "update.cuh"
#include "window_table.cuh"

namespace densefield::cuda {

template <typename T>
T window_pass(DeviceMemory& memory, const WindowPass<T>& pass) {
  const int64_t num_nodes = pass.layout->num_nodes(), num_labels = pass.num_labels;
  Update<T> update{};
  update.num_nodes = num_nodes;
  update.num_labels = num_labels;
  update.unary = pass.unary;
  update.previous = pass.marginals;
  update.scores = pass.scores;
  Buffer<T> temporary;  // in place of `updated`
  if (pass.updated == nullptr) temporary = Buffer<T>(memory, num_nodes * num_labels);
  T* const updated = pass.updated != nullptr ? pass.updated : temporary.data();
  if (pass.updated != nullptr || pass.result != nullptr) update.marginals = updated;
  std::vector<Buffer<T>> others;
  std::vector<UpdateMessage<T>> messages;
  for (std::size_t m = 0; m < pass.kernels.size(); ++m) {
    // The first message lies where the marginals go: a node's is read before they are written.
    if (m > 0) others.emplace_back(memory, num_nodes * num_labels);
    T* const message = m == 0 ? updated : others.back().data();
    apply_window(memory, as_cuda(*pass.kernels[m]), pass.marginals, num_labels, false, message);
    messages.push_back({message, nullptr, nullptr, 0, nullptr,
                        pass.self.empty() ? nullptr : pass.self[m].data(),
                        pass.compatibility[m].form, pass.compatibility[m].values.data()});
  }
  const T change = run_update(memory, update, messages, pass.wants_change);
  if (pass.result != nullptr) store_rows<T>(memory, update.marginals, *pass.result);
  return change;
}

template float window_pass(DeviceMemory&, const WindowPass<float>&);
template double window_pass(DeviceMemory&, const WindowPass<double>&);

}  // namespace densefield::cuda
