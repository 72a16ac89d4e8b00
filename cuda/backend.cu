// CUDA behind the interface of backend.h.
#include <map>
#include <mutex>
#include <utility>

#include "../cpp/core/grid_kernel.h"
#include "arrays.cuh"
#include "densefield/backend.h"
#include "device.cuh"
#include "layout.cuh"
#include "library.h"
#include "reverse_scratch.cuh"
#include "steps.cuh"
#include "window_gradient.cuh"
#include "window_table.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
class CudaBackend final : public Backend<T> {
 public:
  explicit CudaBackend(Queue queue) : memory_(queue) {}

  Memory& memory() override { return memory_; }
  void upload(const T* from, int64_t count, T* to) const override {
    upload_values(memory_, from, count, to);  // tables of compatibilities
  }
  void download(const T* from, int64_t count, T* to) const override {
    cuda::download(memory_, from, count, to);
  }
  int64_t row_stride(int64_t num_channels) const override { return num_channels; }

  std::shared_ptr<const NodeLayout> make_layout(const Grid& grid, int max_dim) const override {
    return cuda::make_layout(memory_, grid, max_dim);
  }
  void load_nodes(const NodeLayout&, NodeView<const T> from, T /*padding*/,
                  T* rows) const override {
    load_rows(memory_, from, rows);
  }
  void store_nodes(const NodeLayout&, const T* rows, NodeView<T> to) const override {
    store_rows(memory_, rows, to);
  }

  std::shared_ptr<const Lattice<T>> build_lattice(std::shared_ptr<const NodeLayout> layout,
                                                  const Features<T>& features) const override {
    return cuda::build_lattice<T>(memory_, std::static_pointer_cast<const CudaLayout>(layout),
                                  features);
  }
  std::shared_ptr<const Lattice<T>> build_grid_kernel(std::shared_ptr<const NodeLayout> layout,
                                                      const std::vector<T>& sigma) const override {
    return cuda::build_grid_kernel<T>(memory_, std::static_pointer_cast<const CudaLayout>(layout),
                                      sigma);
  }
  int max_grid_kernel_axes() const override { return kMaxGridKernelAxes; }
  std::unique_ptr<VertexRows<T>> make_vertex_rows(const Lattice<T>& lattice,
                                                  int64_t num_channels) const override {
    return std::make_unique<CudaVertexRows<T>>(memory_, as_cuda(lattice), num_channels);
  }
  std::unique_ptr<VertexRows<T>> make_vertex_values(const Lattice<T>& lattice) const override {
    return make_vertex_rows(lattice, 1);
  }
  void splat(const Lattice<T>& lattice, const T* rows, const T* pre,
             VertexRows<T>& vertices) const override {
    cuda::splat(memory_, as_cuda(lattice), rows, pre, as_cuda(vertices));
  }
  void blur(const Lattice<T>& lattice, bool reverse, VertexRows<T>& vertices) const override {
    cuda::blur(memory_, as_cuda(lattice), reverse, as_cuda(vertices));
  }
  void slice(const Lattice<T>& lattice, const VertexRows<T>& vertices, const T* post, T scale,
             T* rows) const override {
    cuda::slice(memory_, as_cuda(lattice), as_cuda(vertices), post, scale, rows);
  }
  void load_vertices(const Lattice<T>&, NodeView<const T> from,
                     VertexRows<T>& rows) const override {
    load_rows(memory_, from, as_cuda(rows).values.data());
  }
  void store_vertices(const Lattice<T>&, const VertexRows<T>& rows, NodeView<T> to) const override {
    store_rows(memory_, as_cuda(rows).values.data(), to);
  }
  void diagonal(const Lattice<T>& lattice, T* out) const override {
    cuda::diagonal(memory_, as_cuda(lattice), out);
  }

  std::unique_ptr<UpdateScratch<T>> make_update_scratch(const NodeLayout& layout,
                                                        int64_t num_channels, size_t num_kernels,
                                                        bool keeps_marginals) const override {
    const int64_t num_nodes = layout.num_nodes();
    auto scratch =
        std::make_unique<CudaUpdateScratch<T>>(memory_, num_nodes, num_channels, num_kernels);
    if (!keeps_marginals) scratch->marginals = Buffer<T>(memory_, num_nodes * num_channels);
    return scratch;
  }
  T mean_field_pass(const MeanFieldPass<T>& pass) const override {
    return cuda::mean_field_pass(memory_, pass);
  }

  void binary_score(const NodeLayout&, NodeView<const T> unary, T* score) const override {
    cuda::binary_score(memory_, unary, score);
  }
  void binary_pass(const BinaryPass<T>& pass) const override { cuda::binary_pass(memory_, pass); }

  std::shared_ptr<const WindowTable<T>> make_window_table(
      const Grid& grid, const WindowOptions& options,
      std::span<const WindowTerm<T>> terms) const override {
    return cuda::make_window_table(memory_, grid, options, terms);
  }
  void apply_window(const WindowTable<T>& table, const T* rows, int64_t num_channels,
                    bool transpose, T* out) const override {
    CellRows<T> cells = make_cell_rows(memory_, as_cuda(table), num_channels);
    cuda::apply_window(memory_, as_cuda(table), rows, num_channels, transpose, cells, out);
  }
  void window_diagonal(const WindowTable<T>& table, T* out) const override {
    cuda::window_diagonal(memory_, as_cuda(table), true, out);
  }
  std::unique_ptr<UpdateScratch<T>> make_window_scratch(
      std::span<const std::shared_ptr<const WindowTable<T>>> tables, const NodeLayout& layout,
      int64_t num_labels) const override {
    const int64_t num_nodes = layout.num_nodes();
    auto scratch =
        std::make_unique<CudaUpdateScratch<T>>(memory_, num_nodes, num_labels, tables.size());
    if (tables.empty()) return scratch;
    const auto others = static_cast<int64_t>(tables.size() - 1);
    if (others > 0) scratch->messages = Buffer<T>(memory_, others * num_nodes * num_labels);
    scratch->cells = make_cell_rows(memory_, as_cuda(*tables[0]), num_labels);
    return scratch;
  }
  T window_pass(const WindowPass<T>& pass) const override {
    return cuda::window_pass(memory_, pass);
  }

  std::unique_ptr<UpdateScratch<T>> make_reverse_scratch(
      const NodeLayout& layout, int64_t num_labels,
      std::span<const ReverseKernel<T>> kernels) const override {
    return cuda::make_reverse_scratch(memory_, layout.num_nodes(), num_labels, kernels);
  }
  void mean_field_reverse_pass(const MeanFieldReversePass<T>& pass) const override {
    cuda::mean_field_reverse_pass(memory_, pass);
  }
  void weight_gradient(const Lattice<T>& lattice, const T* rows, const VertexRows<T>& vertices,
                       int64_t num_channels, T scale, T* grad_weight) const override {
    cuda::weight_gradient(memory_, as_cuda(lattice), rows, as_cuda(vertices), num_channels, scale,
                          grad_weight);
  }
  void grid_sigma_gradient(const Lattice<T>& lattice, VertexRows<T>& values,
                           const VertexRows<T>& gradients, const CompatibilityTable<T>* table,
                           int64_t num_channels, double scale, UpdateScratch<T>* scratch,
                           double* grad_sigma) const override {
    cuda::grid_sigma_gradient(memory_, as_cuda(lattice), as_cuda(values), as_cuda(gradients), table,
                              num_channels, scale, as_reverse(*scratch).grid, grad_sigma);
  }
  void diagonal_gradient(const Lattice<T>& lattice, const T* grad, T* grad_weight,
                         double* grad_sigma) const override {
    cuda::diagonal_gradient(memory_, as_cuda(lattice), grad, grad_weight, grad_sigma);
  }
  void scale_gradient(const ScaleGradient<T>& scales) const override {
    cuda::scale_gradient(memory_, scales);
  }
  void feature_gradient(const Lattice<T>& lattice, const Features<T>& features,
                        const T* grad_weight, const FeatureGradient<T>& out) const override {
    cuda::feature_gradient(memory_, as_cuda(lattice), features, grad_weight, out);
  }

  std::unique_ptr<WindowGradient<T>> make_window_gradient(const WindowTable<T>& table,
                                                          int64_t num_channels,
                                                          bool excludes_self) const override {
    return std::make_unique<CudaWindowGradient<T>>(memory_, as_cuda(table), num_channels,
                                                   excludes_self);
  }
  void add_window_gradient(const WindowTable<T>& table, const T* rows, const T* grad_scores,
                           const CompatibilityTable<T>* transposed_compatibility,
                           int64_t num_channels, bool excludes_self,
                           WindowGradient<T>& gradient) const override {
    cuda::add_window_gradient(memory_, as_cuda(table), rows, grad_scores, transposed_compatibility,
                              num_channels, excludes_self, as_cuda(gradient));
  }
  void window_term_gradients(const WindowTable<T>& table, WindowGradient<T>& gradient,
                             std::span<const WindowTermGradient<T>> terms) const override {
    cuda::window_term_gradients(memory_, as_cuda(table), as_cuda(gradient), terms);
  }
  std::unique_ptr<UpdateScratch<T>> make_window_reverse_scratch(
      const NodeLayout& layout, int64_t num_labels,
      std::span<const WindowReverseKernel<T>> kernels) const override {
    return cuda::make_window_reverse_scratch(memory_, layout.num_nodes(), num_labels, kernels);
  }
  void window_reverse_pass(const WindowReversePass<T>& pass) const override {
    cuda::window_reverse_pass(memory_, pass);
  }

  void normalizer(const NodeLayout& layout, const T* rows, int64_t stride, bool square_root,
                  T* out) const override {
    cuda::normalizer(memory_, rows, layout.num_nodes(), stride, square_root, out);
  }
  void multiply(const T* a, const T* b, int64_t count, T* out) const override {
    cuda::multiply(memory_, a, b, count, out);
  }
  void add(const T* from, int64_t count, T* to) const override {
    cuda::add(memory_, from, count, to);
  }
  void fill(T value, int64_t count, T* out) const override {
    cuda::fill(memory_, value, count, out);
  }

  PairwiseEnergy pairwise_energy(const NodeLayout& layout, const T* marginals, const T* messages,
                                 const T* self, const CompatibilityTable<T>& table, T offset,
                                 int64_t num_labels) const override {
    return cuda::pairwise_energy(memory_, layout.num_nodes(), marginals, messages, self, table,
                                 offset, num_labels);
  }
  double unary_energy(const NodeLayout& layout, const T* marginals, const T* unary,
                      int64_t num_labels) const override {
    return cuda::unary_energy(memory_, layout.num_nodes(), marginals, unary, num_labels);
  }
  double negative_entropy(const NodeLayout& layout, const T* marginals,
                          int64_t num_labels) const override {
    return cuda::negative_entropy(memory_, layout.num_nodes(), marginals, num_labels);
  }

 private:
  mutable DeviceMemory memory_;
};

// One backend for each device and stream, kept: models point to theirs. Never destroyed, because
// the driver may be gone before static objects are.
template <typename T>
Backend<T>* backend_on(int device, cudaStream_t stream) {
  static std::mutex mutex;
  static auto* backends = new std::map<std::pair<int, cudaStream_t>, CudaBackend<T>*>;
  if (stream == nullptr) stream = own_stream(device);
  const std::lock_guard lock(mutex);
  CudaBackend<T>*& backend = (*backends)[{device, stream}];
  if (backend == nullptr) backend = new CudaBackend<T>({device, stream, own_pool(device)});
  return backend;
}

}  // namespace
}  // namespace densefield::cuda

const char* densefield_cuda_build() { return DF_CUDA_BUILD; }

const char* densefield_cuda_problem() { return densefield::cuda::device_problem(); }

const char* densefield_cuda_device_name(int device) {
  return densefield::cuda::device_name(device);
}

void* densefield_cuda_backend(int device, void* stream, int is_double) {
  using namespace densefield;
  if (cuda::device_problem() != nullptr) return nullptr;
  const auto on = static_cast<cudaStream_t>(stream);
  try {
    if (is_double != 0) return cuda::backend_on<double>(device, on);
    return cuda::backend_on<float>(device, on);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void* densefield_cuda_arrays(int device, void* stream) {
  using namespace densefield;
  if (cuda::device_problem() != nullptr) return nullptr;
  try {
    return cuda::arrays_on(device, static_cast<cudaStream_t>(stream));
  } catch (const std::exception&) {
    return nullptr;
  }
}

int densefield_cuda_choose_device(int device) { return densefield::cuda::choose_device(device); }

int densefield_cuda_device_of(const void* pointer) {
  return densefield::cuda::device_problem() != nullptr ? -1 : densefield::cuda::device_of(pointer);
}
