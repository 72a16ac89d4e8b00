// The weights of a window table: Gaussians of feature differences, normalised, merged.
#include <algorithm>

#include "../cpp/core/normalization.h"
#include "../cpp/core/window.h"
#include "launch.cuh"
#include "layout.cuh"
#include "window_table.cuh"

namespace densefield::cuda {
namespace {

// What a kernel needs to weigh two cells.
template <typename T>
struct CellFeatures {
  WindowExtent extent;
  int64_t num_channels;
  const T* values;  // (channel, cell) at their strides
  int64_t channel_stride;
  int64_t cell_stride;
  const T* inverse_sigma;      // [channels]
  const double* centre[3];     // positions of the cells along z, y and x
  double inverse_position[3];  // 1 / sigma along z, y and x; 0: positions do not count

  template <typename Visit>
  void for_pointers(Visit visit) const {
    visit(values);
    visit(inverse_sigma);
    for (const double* along : centre) visit(along);
  }

  // The neighbour of cell (z, y, x) by a tap, or -1 beyond the grid.
  __device__ int64_t neighbour(int64_t cell, const WindowTap& tap) const {
    const int64_t z = cell / (extent.y * extent.x) + tap.dz,
                  y = cell / extent.x % extent.y + tap.dy;
    const int64_t x = cell % extent.x + tap.dx;
    const bool is_inside =
        z >= 0 && z < extent.z && y >= 0 && y < extent.y && x >= 0 && x < extent.x;
    return is_inside ? cell + tap.distance : -1;
  }

  __device__ double squared_along(int axis, int64_t from, int64_t distance) const {
    const double step =
        (centre[axis][from + distance] - centre[axis][from]) * inverse_position[axis];
    return step * step;
  }

  // g of a cell and the neighbour that exists, without scales.
  __device__ T weight(int64_t cell, const WindowTap& tap) const {
    const double positions = squared_along(0, cell / (extent.y * extent.x), tap.dz) +
                             squared_along(1, cell / extent.x % extent.y, tap.dy) +
                             squared_along(2, cell % extent.x, tap.dx);
    T squared = static_cast<T>(positions);
    const T* here = values + cell * cell_stride;
    const T* there = here + tap.distance * cell_stride;
    for (int64_t c = 0; c < num_channels; ++c)
      squared +=
          squared_step(here[c * channel_stride], there[c * channel_stride], inverse_sigma[c]);
    return window_weight(squared);
  }
};

// n = K 1 at the cells, maths §3.
template <typename T>
__global__ void weight_sums_kernel(CellFeatures<T> features,
                                   const WindowTap* taps,  // [num_taps]
                                   int64_t num_cells, int64_t num_taps,
                                   T* sums) {  // [cells] out
  const int64_t i = item_of_thread();
  if (i >= num_cells) return;
  T sum = T(0);
  for (int64_t t = 0; t < num_taps; ++t)
    if (features.neighbour(i, taps[t]) >= 0) sum += features.weight(i, taps[t]);
  sums[i] = sum;
}

template <typename T>
__global__ void node_scales_kernel(const T* sums,  // [N]
                                   int64_t num_nodes, Normalization mode, T weight,
                                   T* pre,     // [N] out
                                   T* post) {  // [N] out, times weight
  const int64_t i = item_of_thread();
  if (i >= num_nodes) return;
  const T scale = normalization_scale(sums[i], mode == Normalization::symmetric);
  pre[i] = mode == Normalization::after ? T(1) : scale;
  post[i] = weight * (mode == Normalization::before ? T(1) : scale);
}

// weights = or += scale * diag(post) K diag(pre), without the two where they are nullptr.
template <typename T>
__global__ void merge_weights_kernel(CellFeatures<T> features,
                                     const WindowTap* taps,  // [num_taps]
                                     const T* pre,           // [cells] or nullptr
                                     const T* post,          // [cells] or nullptr
                                     T scale, bool adds, int64_t num_cells, int64_t num_taps,
                                     T* weights) {  // [num_taps, cells] in, out
  const int64_t i = item_of_thread();
  if (i >= num_cells) return;
  for (int64_t t = blockIdx.y; t < num_taps; t += gridDim.y) {
    const int64_t neighbour = features.neighbour(i, taps[t]);
    T weight = T(0);
    if (neighbour >= 0) {
      weight = scale * features.weight(i, taps[t]);
      if (pre != nullptr) weight *= post[i] * pre[neighbour];
    }
    T& merged = weights[t * num_cells + i];
    merged = adds ? merged + weight : weight;
  }
}

// The features of a term at the cells, and what they are stored in.
template <typename T>
class TermFeatures {
 public:
  TermFeatures(DeviceMemory& memory, const CellGrid& grid, const Features<T>& features) {
    const NodeView<const T>& values = features.values;
    std::vector<T> inverse;
    for (T sigma : features.sigma_value) inverse.push_back(T(1) / sigma);
    inverse_sigma_ = upload(memory, inverse);
    given.extent = extent_of(grid.coarse);
    given.num_channels = values.num_channels;
    if (grid.cell_size == 1) {
      on_device_ = bring_to_device(memory, values);
      given.values = on_device_.view.data;
      given.channel_stride = on_device_.view.channel_stride;
      given.cell_stride = on_device_.view.node_stride;
    } else if (values.num_channels > 0) {
      Buffer<T> rows(memory, values.num_nodes * values.num_channels);
      load_rows(memory, values, rows.data());
      means_ = Buffer<T>(memory, given.extent.count() * values.num_channels);
      pool<T>(memory, grid, rows.data(), nullptr, values.num_channels, means_.data());
      given.values = means_.data();
      given.channel_stride = 1;
      given.cell_stride = values.num_channels;
    }
    given.inverse_sigma = inverse_sigma_.data();
    for (std::size_t a = 0; a < 3; ++a) {
      std::vector<double> along;
      for (int64_t c = 0; c < grid.coarse[a]; ++c)
        along.push_back(nodes_of_cell(c, grid.phase[a], grid.cell_size, grid.fine[a]).centre());
      centre_[a] = upload(memory, along);
      given.centre[a] = centre_[a].data();
    }
    // Sigmas come in the order x, y, z.
    for (std::size_t a = 0; a < features.sigma_position.size(); ++a)
      given.inverse_position[2 - a] = 1.0 / double(features.sigma_position[a]);
  }

  CellFeatures<T> given{};

 private:
  DeviceView<T> on_device_;
  Buffer<T> means_;  // [cells, channels]
  Buffer<T> inverse_sigma_;
  Buffer<double> centre_[3];
};

template <typename T>
void merge_term(DeviceMemory& memory, CudaWindowTable<T>& table, const CellFeatures<T>& features,
                const T* pre, const T* post, T scale, bool adds) {
  constexpr int64_t kMostRows = 65535;  // of a grid of blocks
  LaunchShape shape = one_each(table.num_cells());
  shape.grid.y = static_cast<unsigned>(std::min(kMostRows, table.num_taps()));
  launch("merge_weights_kernel", merge_weights_kernel<T>, shape, memory.stream(), features,
         table.taps.data(), pre, post, scale, adds, table.num_cells(), table.num_taps(),
         table.weights.data());
}

template <typename T>
void add_term(DeviceMemory& memory, CudaWindowTable<T>& table, const WindowTerm<T>& term,
              bool adds) {
  const TermFeatures<T> features(memory, table.cells, term.features);
  if (term.normalization == Normalization::none)
    return merge_term<T>(memory, table, features.given, nullptr, nullptr, term.weight, adds);
  const int64_t num_nodes = table.num_nodes();
  Buffer<T> sums(memory, table.num_cells()), pre(memory, num_nodes), post(memory, num_nodes);
  launch("weight_sums_kernel", weight_sums_kernel<T>, one_each(table.num_cells()), memory.stream(),
         features.given, table.taps.data(), table.num_cells(), table.num_taps(), sums.data());
  const bool has_cells = table.cells.cell_size > 1;
  if (has_cells) {
    Buffer<T> at_nodes(memory, num_nodes);
    upsample<T>(memory, table.cells, sums.data(), nullptr, 1, at_nodes.data());
    sums = std::move(at_nodes);
  }
  // Between cells of several nodes the scales stay at the nodes, the weight with them.
  launch("node_scales_kernel", node_scales_kernel<T>, one_each(num_nodes), memory.stream(),
         sums.data(), num_nodes, term.normalization, has_cells ? term.weight : T(1), pre.data(),
         post.data());
  if (!has_cells)
    return merge_term<T>(memory, table, features.given, pre.data(), post.data(), term.weight, adds);
  if (adds) fail_value("normalised kernels between cells need a table each");
  merge_term<T>(memory, table, features.given, nullptr, nullptr, T(1), false);
  table.pre = std::move(pre);
  table.post = std::move(post);
}

}  // namespace

template <typename T>
CudaWindowTable<T>::CudaWindowTable(DeviceMemory& memory, const CellGrid& grid, WindowShape shape,
                                    int64_t filter_size, bool symmetric)
    : cells(grid),
      geometry(grid.coarse, shape, filter_size),
      is_symmetric(symmetric),
      spans(upload(memory, geometry.spans)),
      weights(memory,
              window_table_size(geometry.num_rows(), geometry.extent[2], geometry.num_taps)) {
  std::vector<WindowTap> list;
  for (const WindowRowSpan& span : geometry.spans)
    for (int64_t dx = -span.radius; dx <= span.radius; ++dx)
      list.push_back({static_cast<int32_t>(span.dz), static_cast<int32_t>(span.dy),
                      static_cast<int32_t>(dx),
                      geometry.row_distance(span) * geometry.extent[2] + dx});
  taps = upload(memory, list);
}

template <typename T>
std::shared_ptr<const CudaWindowTable<T>> make_window_table(DeviceMemory& memory, const Grid& grid,
                                                            const WindowOptions& options,
                                                            std::span<const WindowTerm<T>> terms) {
  const CellGrid cells = make_cell_grid(grid, options);
  auto table = std::make_shared<CudaWindowTable<T>>(
      memory, cells, options.shape, options.filter_size, has_symmetric_weights(options, terms));
  for (std::size_t m = 0; m < terms.size(); ++m) add_term(memory, *table, terms[m], m > 0);
  return table;
}

#define DF_INSTANTIATE(T)                                               \
  template class CudaWindowTable<T>;                                    \
  template std::shared_ptr<const CudaWindowTable<T>> make_window_table( \
      DeviceMemory&, const Grid&, const WindowOptions&, std::span<const WindowTerm<T>>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
