#include "kernel_grad.h"

namespace densefield {
namespace {

template <typename T>
Buffer<T> zeros(Backend<T>& backend, int64_t count) {
  Buffer<T> buffer(backend.memory(), count);
  backend.fill(T(0), count, buffer.data());
  return buffer;
}

}  // namespace

template <typename T>
KernelReverse<T>::KernelReverse(Backend<T>& backend, const LatticeKernel<T>& kernel,
                                const Compatibility<T>& compatibility, int64_t num_labels,
                                bool wants_kernel)
    : backend_(&backend),
      kernel_(&kernel),
      num_labels_(num_labels),
      wants_kernel_(wants_kernel),
      table_(make_compatibility_table(backend, compatibility, num_labels)),
      transposed_(
          make_compatibility_table(backend, transposed(compatibility, num_labels), num_labels)),
      reversed_(backend.make_vertex_rows(*kernel.lattice, num_labels)),
      grad_compatibility_(static_cast<size_t>(table_.values.size())) {
  if (!wants_kernel) return;
  const int64_t num_nodes = kernel.lattice->num_points();
  forward_ = backend.make_vertex_rows(*kernel.lattice, num_labels);
  if (kernel.lattice->num_grid_axes() > 0)
    grad_grid_sigma_.resize(static_cast<size_t>(kernel.lattice->num_grid_axes()));
  else
    grad_weight_ = zeros(backend, num_nodes * (kernel.lattice->dim() + 1));
  const bool has_self = !kernel.self.is_empty();
  if (is_scaled() || has_self) {
    grad_pre_ = zeros(backend, num_nodes);
    grad_post_ = zeros(backend, num_nodes);
  }
  if (has_self) grad_self_ = zeros(backend, num_nodes);
}

template <typename T>
void KernelReverse<T>::blur(const T* marginals, UpdateScratch<T>* scratch) {
  const Lattice<T>& lattice = *kernel_->lattice;
  if (wants_kernel_) {
    backend_->splat(lattice, marginals, kernel_->pre.data(), *forward_);
    // dL/dmessage = -A^T dL/dz
    if (is_grid())
      backend_->grid_sigma_gradient(lattice, *forward_, *reversed_, &table_, num_labels_, -1.0,
                                    scratch, grad_grid_sigma_.data());
    backend_->blur(lattice, false, *forward_);
  }
  backend_->blur(lattice, true, *reversed_);
}

template <typename T>
ReverseKernel<T> KernelReverse<T>::argument() {
  return {kernel_,
          &table_,
          &transposed_,
          reversed_.get(),
          forward_.get(),
          grad_compatibility_.data(),
          grad_weight_.data(),
          grad_pre_.data(),
          grad_post_.data(),
          grad_self_.data()};
}

// The way through pre, post and self, maths §3: n = K 1 is a filter like any other, and the
// diagonal a function of the weights.
template <typename T>
void KernelReverse<T>::reverse_scales(UpdateScratch<T>* scratch) {
  const Lattice<T>& lattice = *kernel_->lattice;
  const int64_t num_nodes = lattice.num_points(), stride = backend_->row_stride(1);
  const bool has_self = !grad_self_.is_empty();
  Buffer<T> diagonal, grad_diagonal;
  if (has_self) {
    diagonal = Buffer<T>(backend_->memory(), num_nodes);
    grad_diagonal = Buffer<T>(backend_->memory(), num_nodes);
    backend_->diagonal(lattice, diagonal.data());
  }
  Buffer<T> grad_norm(backend_->memory(), num_nodes * stride);
  backend_->scale_gradient({kernel_->normalization, lattice.slice_scale(), num_nodes,
                            kernel_->pre.data(), kernel_->post.data(), diagonal.data(),
                            grad_pre_.data(), grad_post_.data(), grad_self_.data(), stride,
                            grad_norm.data(), grad_diagonal.data()});
  if (has_self)
    backend_->diagonal_gradient(lattice, grad_diagonal.data(), grad_weight_.data(),
                                grad_grid_sigma_.data());
  if (!is_scaled()) return;

  Buffer<T> ones(backend_->memory(), num_nodes * stride);
  backend_->fill(T(1), ones.size(), ones.data());
  const auto forward = backend_->make_vertex_rows(lattice, 1);
  const auto reversed = backend_->make_vertex_rows(lattice, 1);
  backend_->splat(lattice, ones.data(), nullptr, *forward);
  backend_->splat(lattice, grad_norm.data(), nullptr, *reversed);
  if (is_grid()) {
    backend_->grid_sigma_gradient(lattice, *forward, *reversed, nullptr, 1, 1.0, scratch,
                                  grad_grid_sigma_.data());
    return;
  }
  backend_->blur(lattice, false, *forward);
  backend_->blur(lattice, true, *reversed);
  const T scale = lattice.slice_scale();
  backend_->weight_gradient(lattice, grad_norm.data(), *forward, 1, scale, grad_weight_.data());
  backend_->weight_gradient(lattice, ones.data(), *reversed, 1, scale, grad_weight_.data());
}

template <typename T>
void KernelReverse<T>::finish(KernelGradient<T>& out, UpdateScratch<T>* scratch) {
  out.compatibility = without_padding(grad_compatibility_, table_.form, num_labels_,
                                      backend_->row_stride(num_labels_));
  if (!wants_kernel_) return;
  if (!grad_pre_.is_empty()) reverse_scales(scratch);
  if (is_grid()) {
    out.sigma = grad_grid_sigma_;
    return;
  }
  const size_t num_axes = out.features->sigma_position.size();
  out.sigma.assign(num_axes + out.features->sigma_value.size(), 0.0);
  backend_->feature_gradient(*kernel_->lattice, *out.features, grad_weight_.data(),
                             {out.values, out.sigma.data(), out.sigma.data() + num_axes});
}

template class KernelReverse<float>;
template class KernelReverse<double>;

}  // namespace densefield
