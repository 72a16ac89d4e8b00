// One kernel of a CRF in the reverse pass: what is gathered update by update, and the way
// from there to its compatibility, its standard deviations and its features.
#pragma once

#include "compatibility_table.h"
#include "densefield/crf_grad.h"

namespace densefield {

template <typename T>
class KernelReverse {
 public:
  // wants_kernel: gradients by features or standard deviations are wanted.
  KernelReverse(Backend<T>& backend, const LatticeKernel<T>& kernel,
                const Compatibility<T>& compatibility, int64_t num_labels, bool wants_kernel);

  // Before the pass of an update with marginals q: brings the rows splatted by the last pass
  // through B^T, and, where the kernel's own gradient is wanted, q through B S^T.
  void blur(const T* marginals, UpdateScratch<T>* scratch);
  // The same for all passes.
  ReverseKernel<T> argument();
  // After the last pass.
  void finish(KernelGradient<T>& out, UpdateScratch<T>* scratch);

 private:
  bool is_scaled() const { return kernel_->normalization != Normalization::none; }
  bool is_grid() const { return !grad_grid_sigma_.empty(); }
  void reverse_scales(UpdateScratch<T>* scratch);

  Backend<T>* backend_;
  const LatticeKernel<T>* kernel_;
  int64_t num_labels_;
  bool wants_kernel_;
  CompatibilityTable<T> table_;
  CompatibilityTable<T> transposed_;
  std::unique_ptr<VertexRows<T>> reversed_;
  std::unique_ptr<VertexRows<T>> forward_;
  std::vector<double> grad_compatibility_;  // as ReverseKernel has it
  std::vector<double> grad_grid_sigma_;     // [grid axes], empty for a lattice
  Buffer<T> grad_weight_;
  Buffer<T> grad_pre_;
  Buffer<T> grad_post_;
  Buffer<T> grad_self_;
};

}  // namespace densefield
