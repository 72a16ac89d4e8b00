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
  if (pass.keeps_updated || pass.result != nullptr) update.marginals = pass.updated;
  CudaUpdateScratch<T>& scratch = as_cuda(*pass.scratch);
  std::vector<UpdateMessage<T>> messages;
  for (std::size_t m = 0; m < pass.kernels.size(); ++m) {
    // The first message lies where the marginals go: a node's is read before they are written.
    T* message = pass.updated;
    if (m > 0)
      message = scratch.messages.data() + static_cast<int64_t>(m - 1) * num_nodes * num_labels;
    apply_window(memory, as_cuda(*pass.kernels[m]), pass.marginals, num_labels, false,
                 scratch.cells, message);
    messages.push_back({{message, nullptr, nullptr, 0, nullptr},
                        pass.self.empty() ? nullptr : pass.self[m].data(),
                        pass.compatibility[m].form,
                        pass.compatibility[m].values.data()});
  }
  const T change = run_update(memory, update, messages, pass.wants_change, scratch);
  if (pass.result != nullptr) store_rows<T>(memory, update.marginals, *pass.result);
  return change;
}

template float window_pass(DeviceMemory&, const WindowPass<float>&);
template double window_pass(DeviceMemory&, const WindowPass<double>&);

}  // namespace densefield::cuda
