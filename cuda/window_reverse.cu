// One mean-field update backwards, node by node: compatibility and softmax, maths §6.
#include "layout.cuh"
#include "reverse_scratch.cuh"
#include "steps.cuh"
#include "window_gradient.cuh"

namespace densefield::cuda {

template <typename T>
void window_reverse_pass(DeviceMemory& memory, const WindowReversePass<T>& pass) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  const int64_t size = num_nodes * labels;
  if (size == 0) return;
  CudaReverseScratch<T>& scratch = as_reverse(*pass.scratch);
  if (!pass.kernels.empty()) clear(memory, scratch.grad);
  for (const WindowReverseKernel<T>& kernel : pass.kernels) {
    const CompatibilityTable<T>& table = *kernel.transposed_compatibility;
    apply_window<T>(memory, as_cuda(*kernel.table), pass.grad_scores, labels, true, scratch.cells,
                    kernel.filtered);
    if (kernel.self != nullptr)
      subtract_self<T>(memory, kernel.filtered, kernel.self, pass.grad_scores, num_nodes, labels,
                       kernel.filtered);
    scratch.sums.template subtract<T>(memory, table.form, kernel.filtered, pass.marginals,
                                      kernel.grad_compatibility);
    multiply_table<T>(memory, table.form, table.values.data(), kernel.filtered, num_nodes, labels,
                      true, scratch.grad.data());
  }
  const T* by_marginals = pass.kernels.empty() ? pass.grad_scores : scratch.grad.data();
  if (pass.has_softmax)
    reverse_softmax(memory, pass.marginals, by_marginals, num_nodes, labels, pass.grad_scores,
                    pass.grad_unary);
  else if (by_marginals != pass.grad_scores)
    copy(memory, by_marginals, size, pass.grad_scores);
  scratch.sums.finish(memory);
}

template <typename T>
std::unique_ptr<UpdateScratch<T>> make_window_reverse_scratch(
    DeviceMemory& memory, int64_t num_nodes, int64_t num_labels,
    std::span<const WindowReverseKernel<T>> kernels) {
  std::vector<CompatibilityForm> forms;
  for (const WindowReverseKernel<T>& kernel : kernels)
    forms.push_back(kernel.transposed_compatibility->form);
  auto scratch = std::make_unique<CudaReverseScratch<T>>(memory, forms, num_nodes, num_labels);
  // The tables of a model have the same cells.
  if (!kernels.empty())
    scratch->cells = make_cell_rows(memory, as_cuda(*kernels[0].table), num_labels);
  return scratch;
}

#define DF_INSTANTIATE(T)                                                        \
  template void window_reverse_pass(DeviceMemory&, const WindowReversePass<T>&); \
  template std::unique_ptr<UpdateScratch<T>> make_window_reverse_scratch(        \
      DeviceMemory&, int64_t, int64_t, std::span<const WindowReverseKernel<T>>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
