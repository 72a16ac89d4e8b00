// The CPU behind the interface of backend.h.
#include "densefield/backend.h"

#include <algorithm>
#include <cmath>

#include "../core/normalization.h"
#include "build.h"
#include "densefield/threads.h"
#include "grid_kernel.h"
#include "pass_scratch.h"
#include "reverse_steps.h"
#include "steps.h"
#include "vertex_tasks.h"
#include "window_gradient.h"
#include "window_table.h"

namespace densefield {
namespace cpu {
namespace {

constexpr int64_t kCoreCache = int64_t{1} << 19;  // bytes that a core keeps to itself, at least

// out[i] = body(i) for every i, in parallel.
template <typename Body>
void for_elements(int64_t count, Body body) {
  constexpr int64_t kGrain = 65536;  // elements per task; memory-bound
  parallel_for((count + kGrain - 1) / kGrain, [&](int64_t task, int) {
    const int64_t end = std::min(count, (task + 1) * kGrain);
    for (int64_t i = task * kGrain; i < end; ++i) body(i);
  });
}

// body(v) for every vertex v, in parallel.
template <typename Body>
void for_vertices(int64_t count, Body body) {
  for_vertex_tasks(count, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) body(v);
  });
}

template <typename T>
class CpuBackend final : public Backend<T> {
 public:
  Memory& memory() override { return host_memory(); }
  void upload(const T* from, int64_t count, T* to) const override { std::copy_n(from, count, to); }
  void download(const T* from, int64_t count, T* to) const override {
    std::copy_n(from, count, to);
  }
  int64_t row_stride(int64_t num_channels) const override { return padded_stride<T>(num_channels); }

  std::shared_ptr<const NodeLayout> make_layout(const Grid& grid, int max_dim) const override {
    return std::make_shared<CpuLayout>(grid, max_dim);
  }
  void load_nodes(const NodeLayout& layout, NodeView<const T> from, T padding,
                  T* rows) const override {
    cpu::load_nodes(as_cpu(layout), from, padding, rows);
  }
  void store_nodes(const NodeLayout& layout, const T* rows, NodeView<T> to) const override {
    cpu::store_nodes(as_cpu(layout), rows, to);
  }

  std::shared_ptr<const Lattice<T>> build_lattice(std::shared_ptr<const NodeLayout> layout,
                                                  const Features<T>& features) const override {
    return cpu::build_lattice<T>(std::static_pointer_cast<const CpuLayout>(layout), features);
  }
  std::shared_ptr<const Lattice<T>> build_grid_kernel(std::shared_ptr<const NodeLayout> layout,
                                                      const std::vector<T>& sigma) const override {
    return cpu::build_grid_kernel<T>(std::static_pointer_cast<const CpuLayout>(layout), sigma);
  }
  int max_grid_kernel_axes() const override { return kMaxGridKernelAxes; }
  std::unique_ptr<VertexRows<T>> make_vertex_rows(const Lattice<T>& lattice,
                                                  int64_t num_channels) const override {
    return std::make_unique<CpuVertexRows<T>>(as_cpu(lattice), row_stride(num_channels));
  }
  std::unique_ptr<VertexRows<T>> make_vertex_values(const Lattice<T>& lattice) const override {
    return std::make_unique<CpuVertexRows<T>>(as_cpu(lattice), 1);
  }
  void splat(const Lattice<T>& lattice, const T* rows, const T* pre,
             VertexRows<T>& vertices) const override {
    cpu::splat(as_cpu(lattice), rows, pre, as_cpu(vertices));
  }
  void blur(const Lattice<T>& lattice, bool reverse, VertexRows<T>& vertices) const override {
    cpu::blur(as_cpu(lattice), reverse, as_cpu(vertices));
  }
  void blur_messages(std::span<const LatticeKernel<T>> kernels,
                     std::span<const std::unique_ptr<VertexRows<T>>> vertices) const override {
    const auto count = static_cast<int64_t>(kernels.size());
    const bool are_small = std::all_of(vertices.begin(), vertices.end(), [](const auto& rows) {
      return as_cpu(*rows).slots.num_bytes() <= kCoreCache;
    });
    if (!are_small || num_threads() > count) return Backend<T>::blur_messages(kernels, vertices);
    // A kernel for each thread: shared by two cores, such rows would go to and fro at every step.
    parallel_for(count, [&](int64_t m, int) {
      const auto index = static_cast<size_t>(m);
      blur(*kernels[index].lattice, false, *vertices[index]);
    });
  }
  void slice(const Lattice<T>& lattice, const VertexRows<T>& vertices, const T* post, T scale,
             T* rows) const override {
    cpu::slice(as_cpu(lattice), as_cpu(vertices), post, scale, rows);
  }
  void load_vertices(const Lattice<T>& lattice, NodeView<const T> from,
                     VertexRows<T>& rows) const override {
    CpuVertexRows<T>& to = as_cpu(rows);
    const CpuLattice<T>& tables = as_cpu(lattice);
    for_vertices(lattice.num_vertices(), [&](int64_t v) {
      T* row = to.slots.data() + tables.home[v] * to.stride;
      for (int64_t c = 0; c < to.stride; ++c) row[c] = c < from.num_channels ? from.at(c, v) : T(0);
    });
    spread_slots(tables, to);
  }
  void store_vertices(const Lattice<T>& lattice, const VertexRows<T>& rows,
                      NodeView<T> to) const override {
    const CpuVertexRows<T>& from = as_cpu(rows);
    const CpuLattice<T>& tables = as_cpu(lattice);
    for_vertices(lattice.num_vertices(), [&](int64_t v) {
      const T* row = from.slots.data() + tables.home[v] * from.stride;
      for (int64_t c = 0; c < to.num_channels; ++c) to.at(c, v) = row[c];
    });
  }
  void diagonal(const Lattice<T>& lattice, T* out) const override {
    cpu::diagonal(as_cpu(lattice), out);
  }

  const LabelPruner<T>* label_pruner() const override { return &cpu::label_pruner<T>(); }
  std::unique_ptr<UpdateScratch<T>> make_update_scratch(const NodeLayout&, int64_t, size_t,
                                                        bool) const override {
    return std::make_unique<PassScratch<T>>();
  }
  T mean_field_pass(const MeanFieldPass<T>& pass) const override {
    return cpu::mean_field_pass(pass);
  }
  void binary_score(const NodeLayout& layout, NodeView<const T> unary, T* score) const override {
    cpu::binary_score(as_cpu(layout), unary, score);
  }
  void binary_pass(const BinaryPass<T>& pass) const override { cpu::binary_pass(pass); }

  std::shared_ptr<const WindowTable<T>> make_window_table(
      const Grid& grid, const WindowOptions& options,
      std::span<const WindowTerm<T>> terms) const override {
    return cpu::make_window_table(grid, options, terms);
  }
  void apply_window(const WindowTable<T>& table, const T* rows, int64_t num_channels,
                    bool transpose, T* out) const override {
    cpu::apply_window(as_cpu(table), rows, num_channels, transpose, out);
  }
  void window_diagonal(const WindowTable<T>& table, T* out) const override {
    cpu::window_diagonal(as_cpu(table), out);
  }
  T window_pass(const WindowPass<T>& pass) const override { return cpu::window_pass(pass); }
  bool uses_nodes() const override { return true; }

  std::unique_ptr<UpdateScratch<T>> make_reverse_scratch(
      const NodeLayout&, int64_t, std::span<const ReverseKernel<T>>) const override {
    return std::make_unique<ReverseScratch<T>>();
  }
  void mean_field_reverse_pass(const MeanFieldReversePass<T>& pass) const override {
    cpu::mean_field_reverse_pass(pass);
  }
  void weight_gradient(const Lattice<T>& lattice, const T* rows, const VertexRows<T>& vertices,
                       int64_t /*num_channels*/, T scale, T* grad_weight) const override {
    cpu::weight_gradient(as_cpu(lattice), rows, as_cpu(vertices), scale, grad_weight);
  }
  void grid_sigma_gradient(const Lattice<T>& lattice, VertexRows<T>& values,
                           const VertexRows<T>& gradients, const CompatibilityTable<T>* table,
                           int64_t num_channels, double scale, UpdateScratch<T>*,
                           double* grad_sigma) const override {
    cpu::grid_sigma_gradient(as_cpu(lattice), as_cpu(values), as_cpu(gradients), table,
                             num_channels, scale, grad_sigma);
  }
  void diagonal_gradient(const Lattice<T>& lattice, const T* grad, T* grad_weight,
                         double* grad_sigma) const override {
    cpu::diagonal_gradient(as_cpu(lattice), grad, grad_weight, grad_sigma);
  }
  void scale_gradient(const ScaleGradient<T>& scales) const override {
    cpu::scale_gradient(scales);
  }
  void feature_gradient(const Lattice<T>& lattice, const Features<T>& features,
                        const T* grad_weight, const FeatureGradient<T>& out) const override {
    cpu::feature_gradient(as_cpu(lattice), features, grad_weight, out);
  }

  std::unique_ptr<WindowGradient<T>> make_window_gradient(const WindowTable<T>& table,
                                                          int64_t /*num_channels*/,
                                                          bool /*excludes_self*/) const override {
    return std::make_unique<CpuWindowGradient<T>>(as_cpu(table));
  }
  void add_window_gradient(const WindowTable<T>& table, const T* rows, const T* grad_scores,
                           const CompatibilityTable<T>* transposed_compatibility,
                           int64_t num_channels, bool excludes_self,
                           WindowGradient<T>& out) const override {
    cpu::add_window_gradient(as_cpu(table), rows, grad_scores, transposed_compatibility,
                             num_channels, excludes_self, as_cpu(out));
  }
  void window_term_gradients(const WindowTable<T>& table, WindowGradient<T>& gradient,
                             std::span<const WindowTermGradient<T>> terms) const override {
    cpu::window_term_gradients(as_cpu(table), as_cpu(gradient), terms);
  }
  void window_reverse_pass(const WindowReversePass<T>& pass) const override {
    cpu::window_reverse_pass(pass);
  }

  void normalizer(const NodeLayout& layout, const T* rows, int64_t stride, bool square_root,
                  T* out) const override {
    for_elements(layout.num_nodes(),
                 [&](int64_t i) { out[i] = normalization_scale(rows[i * stride], square_root); });
  }
  void multiply(const T* a, const T* b, int64_t count, T* out) const override {
    for_elements(count, [&](int64_t i) { out[i] = a[i] * b[i]; });
  }
  void add(const T* from, int64_t count, T* to) const override {
    for_elements(count, [&](int64_t i) { to[i] += from[i]; });
  }
  void fill(T value, int64_t count, T* out) const override {
    for_elements(count, [&](int64_t i) { out[i] = value; });
  }

  PairwiseEnergy pairwise_energy(const NodeLayout& layout, const T* marginals, const T* messages,
                                 const T* self, const CompatibilityTable<T>& table, T offset,
                                 int64_t num_labels) const override {
    return cpu::pairwise_energy(as_cpu(layout), marginals, messages, self, table, offset,
                                num_labels);
  }
  double unary_energy(const NodeLayout& layout, const T* marginals, const T* unary,
                      int64_t num_labels) const override {
    return cpu::unary_energy(as_cpu(layout), marginals, unary, num_labels);
  }
  double negative_entropy(const NodeLayout& layout, const T* marginals,
                          int64_t num_labels) const override {
    return cpu::negative_entropy(as_cpu(layout), marginals, num_labels);
  }
};

}  // namespace
}  // namespace cpu

template <typename T>
Backend<T>& cpu_backend() {
  static cpu::CpuBackend<T> backend;
  return backend;
}
template Backend<float>& cpu_backend();
template Backend<double>& cpu_backend();

}  // namespace densefield
