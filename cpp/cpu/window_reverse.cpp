// One mean-field update backwards, node by node: compatibility and softmax, maths §6.
#include <algorithm>
#include <vector>

#include "densefield/backend.h"
#include "densefield/threads.h"
#include "scratch.h"
#include "simd/window_kernels.h"
#include "steps.h"
#include "window_gradient.h"

namespace densefield::cpu {
namespace {

// Nodes whose part in the gradient by the compatibility is summed by one thread: the sums are
// added in the order of the tasks.
constexpr int64_t kTaskNodes = 16384;
// Nodes that are summed in T before that.
constexpr int64_t kChunk = 64;

template <typename T>
class ReverseTask {
 public:
  explicit ReverseTask(const WindowReversePass<T>& pass)
      : pass_(pass), stride_(padded_stride<T>(pass.num_labels)) {
    for (const WindowReverseKernel<T>& kernel : pass.kernels)
      sums_.emplace_back(static_cast<size_t>(sums_size(kernel)), 0.0);
  }

  void run(int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kChunk)
      run_chunk(first, std::min(kChunk, end - first));
  }

  void add_sums() const {
    for (size_t m = 0; m < sums_.size(); ++m) {
      const WindowReverseKernel<T>& kernel = pass_.kernels[m];
      const bool is_scalar = kernel.transposed_compatibility->form == CompatibilityForm::scalar;
      for (size_t e = 0; e < sums_[m].size(); ++e)
        kernel.grad_compatibility[is_scalar ? 0 : e] += sums_[m][e];
    }
  }

 private:
  int64_t sums_size(const WindowReverseKernel<T>& kernel) const {
    return kernel.transposed_compatibility->form == CompatibilityForm::matrix
               ? pass_.num_labels * stride_
               : stride_;
  }

  void run_chunk(int64_t first, int64_t count) {
    struct Rows;
    std::vector<simd::WindowReversePart<T>> parts;
    std::vector<std::vector<T>> sums;
    for (const WindowReverseKernel<T>& kernel : pass_.kernels) {
      sums.emplace_back(static_cast<size_t>(sums_size(kernel)), T(0));
      parts.push_back({kernel.filtered + first * stride_,
                       kernel.self == nullptr ? nullptr : kernel.self + first,
                       kernel.transposed_compatibility->form,
                       kernel.transposed_compatibility->values.data(), sums.back().data()});
    }
    simd::window_kernels<T>().reverse_rows(
        {count, stride_, pass_.num_labels, static_cast<int>(parts.size()), parts.data(),
         pass_.has_softmax, pass_.marginals + first * stride_, pass_.grad_scores + first * stride_,
         pass_.grad_unary + first * stride_, thread_scratch<T, Rows>(2 * stride_)});
    for (size_t m = 0; m < sums.size(); ++m)
      for (size_t e = 0; e < sums[m].size(); ++e) sums_[m][e] += double(sums[m][e]);
  }

  const WindowReversePass<T>& pass_;
  const int64_t stride_;
  std::vector<std::vector<double>> sums_;
};

}  // namespace

template <typename T>
void window_reverse_pass(const WindowReversePass<T>& pass) {
  const int64_t num_nodes = pass.layout->num_nodes();
  const int64_t num_tasks = (num_nodes + kTaskNodes - 1) / kTaskNodes;
  for (const WindowReverseKernel<T>& kernel : pass.kernels)
    apply_window(as_cpu(*kernel.table), pass.grad_scores, pass.num_labels, true, kernel.filtered);
  std::vector<ReverseTask<T>> tasks(static_cast<size_t>(num_tasks), ReverseTask<T>(pass));
  parallel_for(num_tasks, [&](int64_t task, int) {
    tasks[static_cast<size_t>(task)].run(task * kTaskNodes,
                                         std::min(num_nodes, (task + 1) * kTaskNodes));
  });
  for (const ReverseTask<T>& task : tasks) task.add_sums();
}

template void window_reverse_pass(const WindowReversePass<float>&);
template void window_reverse_pass(const WindowReversePass<double>&);

}  // namespace densefield::cpu
