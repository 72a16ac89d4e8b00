// What an image contributes to a CRF: one normalised operator per kernel.
#include <algorithm>

#include "normalized_kernel.h"

namespace densefield {

template <typename T>
CrfModel<T>::CrfModel(Backend<T>& backend, const Grid& grid,
                      const std::vector<KernelSpec<T>>& kernels, bool exclude_self)
    : backend_(&backend), exclude_self_(exclude_self) {
  int max_dim = 1;
  for (const KernelSpec<T>& kernel : kernels) max_dim = std::max(max_dim, kernel.features.dim());
  layout_ = backend.make_layout(grid, max_dim);
  for (const KernelSpec<T>& spec : kernels) {
    LatticeKernel<T> kernel = make_normalized_kernel(backend, layout_, spec);
    if (exclude_self) kernel.self = kernel_diagonal(backend, kernel);
    kernels_.push_back(std::move(kernel));
  }
}

template <typename T>
int64_t CrfModel<T>::num_bytes() const {
  int64_t total = 0;
  for (const LatticeKernel<T>& kernel : kernels_)
    total += kernel.lattice->num_bytes() + kernel.pre.num_bytes() + kernel.post.num_bytes() +
             kernel.self.num_bytes();
  return total;
}

template class CrfModel<float>;
template class CrfModel<double>;

}  // namespace densefield
