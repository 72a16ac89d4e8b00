// The weights of a window table: Gaussians of feature differences, normalised, merged.
#include <algorithm>

#include "../cpp/core/normalization.h"
#include "launch.cuh"
#include "window_features.cuh"

namespace densefield::cuda {
namespace {

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
  // Between cells of several nodes the scales stay at the nodes, the weight with them.
  const bool has_cells = table.cells.has_cells();
  NodeScales<T> scales = node_scales(memory, table, features.given, term.normalization,
                                     has_cells ? term.weight : T(1));
  if (!has_cells)
    return merge_term<T>(memory, table, features.given, scales.pre.data(), scales.post.data(),
                         term.weight, adds);
  if (adds) fail_value("normalised kernels between cells need a table each");
  merge_term<T>(memory, table, features.given, nullptr, nullptr, T(1), false);
  table.pre = std::move(scales.pre);
  table.post = std::move(scales.post);
}

}  // namespace

template <typename T>
NodeScales<T> node_scales(DeviceMemory& memory, const CudaWindowTable<T>& table,
                          const CellFeatures<T>& features, Normalization mode, T weight) {
  const int64_t num_nodes = table.num_nodes();
  Buffer<T> sums(memory, table.num_cells());
  launch("weight_sums_kernel", weight_sums_kernel<T>, one_each(table.num_cells()), memory.stream(),
         features, table.taps.data(), table.num_cells(), table.num_taps(), sums.data());
  if (table.cells.has_cells()) {
    Buffer<T> at_nodes(memory, num_nodes);
    upsample<T>(memory, table.cells, sums.data(), nullptr, 1, at_nodes.data());
    sums = std::move(at_nodes);
  }
  NodeScales<T> scales{Buffer<T>(memory, num_nodes), Buffer<T>(memory, num_nodes)};
  launch("node_scales_kernel", node_scales_kernel<T>, one_each(num_nodes), memory.stream(),
         sums.data(), num_nodes, mode, weight, scales.pre.data(), scales.post.data());
  return scales;
}

template <typename T>
CudaWindowTable<T>::CudaWindowTable(DeviceMemory& memory, const CellGrid& grid, WindowShape shape,
                                    int64_t filter_size, bool symmetric)
    : cells(grid),
      geometry(grid, shape, filter_size),
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

#define DF_INSTANTIATE(T)                                                       \
  template class CudaWindowTable<T>;                                            \
  template NodeScales<T> node_scales(DeviceMemory&, const CudaWindowTable<T>&,  \
                                     const CellFeatures<T>&, Normalization, T); \
  template std::shared_ptr<const CudaWindowTable<T>> make_window_table(         \
      DeviceMemory&, const Grid&, const WindowOptions&, std::span<const WindowTerm<T>>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
