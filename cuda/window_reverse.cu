// One mean-field update backwards, node by node: compatibility and softmax, maths §6.
#include "layout.cuh"
#include "reverse_steps.cuh"
#include "steps.cuh"
#include "window_gradient.cuh"

namespace densefield::cuda {

template <typename T>
void window_reverse_pass(DeviceMemory& memory, const WindowReversePass<T>& pass) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  const int64_t size = num_nodes * labels;
  if (size == 0) return;
  TableSums sums;
  Buffer<T> grad, filtered;  // by the marginals; a message's own gradient
  if (!pass.kernels.empty()) {
    grad = Buffer<T>(memory, size);
    clear(memory, grad);
  }
  for (const WindowReverseKernel<T>& kernel : pass.kernels) {
    const CompatibilityTable<T>& table = *kernel.transposed_compatibility;
    const T* received = kernel.filtered;
    if (kernel.self != nullptr) {
      if (filtered.is_empty()) filtered = Buffer<T>(memory, size);
      subtract_self<T>(memory, kernel.filtered, kernel.self, pass.grad_scores, num_nodes, labels,
                       filtered.data());
      received = filtered.data();
    }
    sums.subtract(memory, table.form, received, pass.marginals, num_nodes, labels,
                  kernel.grad_compatibility);
    multiply_table(memory, table.form, table.values.data(), received, num_nodes, labels, true,
                   grad.data());
  }
  const T* by_marginals = pass.kernels.empty() ? pass.grad_scores : grad.data();
  if (pass.has_softmax)
    reverse_softmax(memory, pass.marginals, by_marginals, num_nodes, labels, pass.grad_scores,
                    pass.grad_unary);
  else if (by_marginals != pass.grad_scores)
    copy(memory, by_marginals, size, pass.grad_scores);
  sums.finish(memory);
}

template void window_reverse_pass(DeviceMemory&, const WindowReversePass<float>&);
template void window_reverse_pass(DeviceMemory&, const WindowReversePass<double>&);

}  // namespace densefield::cuda
