// A kernel with its normalisation folded into two scales per node, maths §3:
// K~ = diag(post) K diag(pre), so that no iteration pays for it.
#include "normalized_kernel.h"

#include <utility>

#include "../core/normalization.h"

namespace densefield {
namespace {

// D^-1 or D^-1/2 of maths §3, from n = K 1.
template <typename T>
Buffer<T> normalization_scales(Backend<T>& backend, const NodeLayout& layout,
                               const Lattice<T>& lattice, bool square_root) {
  const int64_t num_nodes = layout.num_nodes();
  Buffer<T> rows(backend.memory(), num_nodes);
  backend.fill(T(1), rows.size(), rows.data());
  const auto vertices = backend.make_vertex_values(lattice);
  backend.splat(lattice, rows.data(), nullptr, *vertices);
  backend.blur(lattice, false, *vertices);
  backend.slice(lattice, *vertices, nullptr, lattice.slice_scale(), rows.data());
  Buffer<T> scales(backend.memory(), num_nodes);
  backend.normalizer(layout, rows.data(), 1, square_root, scales.data());
  return scales;
}

}  // namespace

template <typename T>
LatticeKernel<T> make_normalized_kernel(Backend<T>& backend,
                                        std::shared_ptr<const NodeLayout> layout,
                                        const KernelSpec<T>& spec) {
  const int64_t num_nodes = layout->num_nodes();
  LatticeKernel<T> kernel;
  kernel.normalization = spec.normalization;
  kernel.lattice = spec.grid_sigma.empty() ? backend.build_lattice(layout, spec.features)
                                           : backend.build_grid_kernel(layout, spec.grid_sigma);
  const ScaleRule<T> rule = scale_rule(spec.normalization, kernel.lattice->slice_scale());
  Buffer<T> scales;
  if (rule.scales_pre || rule.scales_post)
    scales = normalization_scales(backend, *layout, *kernel.lattice, rule.square_root);
  kernel.post = Buffer<T>(backend.memory(), num_nodes);
  backend.fill(rule.slice_scale, num_nodes, kernel.post.data());
  if (rule.scales_post)
    backend.multiply(kernel.post.data(), scales.data(), num_nodes, kernel.post.data());
  if (rule.scales_pre) {
    kernel.pre = std::move(scales);
  } else {
    kernel.pre = Buffer<T>(backend.memory(), num_nodes);
    backend.fill(T(1), num_nodes, kernel.pre.data());
  }
  return kernel;
}

template <typename T>
void apply_kernel(const Backend<T>& backend, const LatticeKernel<T>& kernel, const T* in,
                  int64_t num_channels, bool transpose, T* out) {
  // The transpose swaps the two scales and reverses the blur; the slice scale is in `post`.
  const Buffer<T>& before = transpose ? kernel.post : kernel.pre;
  const Buffer<T>& after = transpose ? kernel.pre : kernel.post;
  const auto vertices = backend.make_vertex_rows(*kernel.lattice, num_channels);
  backend.splat(*kernel.lattice, in, before.data(), *vertices);
  backend.blur(*kernel.lattice, transpose, *vertices);
  backend.slice(*kernel.lattice, *vertices, after.data(), T(1), out);
}

template <typename T>
Buffer<T> kernel_diagonal(Backend<T>& backend, const LatticeKernel<T>& kernel) {
  // backend.diagonal includes the slice scale, and so does `post`.
  const int64_t num_nodes = kernel.lattice->num_points();
  Buffer<T> diagonal(backend.memory(), num_nodes);
  Buffer<T> inverse_scale(backend.memory(), num_nodes);
  backend.diagonal(*kernel.lattice, diagonal.data());
  backend.fill(T(1) / kernel.lattice->slice_scale(), num_nodes, inverse_scale.data());
  backend.multiply(diagonal.data(), inverse_scale.data(), num_nodes, diagonal.data());
  backend.multiply(diagonal.data(), kernel.pre.data(), num_nodes, diagonal.data());
  backend.multiply(diagonal.data(), kernel.post.data(), num_nodes, diagonal.data());
  return diagonal;
}

#define DF_INSTANTIATE(T)                                                                          \
  template LatticeKernel<T> make_normalized_kernel(Backend<T>&, std::shared_ptr<const NodeLayout>, \
                                                   const KernelSpec<T>&);                          \
  template void apply_kernel(const Backend<T>&, const LatticeKernel<T>&, const T*, int64_t, bool,  \
                             T*);                                                                  \
  template Buffer<T> kernel_diagonal(Backend<T>&, const LatticeKernel<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield
