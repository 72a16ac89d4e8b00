// The weights of a window table: Gaussians of feature differences, normalised, merged.
#include <algorithm>
#include <vector>

#include "../core/window.h"
#include "densefield/threads.h"
#include "window_planes.h"
#include "window_scales.h"

namespace densefield::cpu {
namespace {

// What one grid row takes from the planes of a kernel.
template <typename T>
struct RowSources {
  std::vector<int64_t> tap;
  std::vector<const T*> source;
  std::vector<const T*> pre;

  // pre: [cells] scales with margins, or nullptr.
  RowSources(const WindowPlanes<T>& planes, const WindowGeometry& geometry, int64_t row,
             const T* scales) {
    planes.for_taps(row, [&](const WindowRowSpan& span, int64_t number, int64_t dx, const T* from) {
      tap.push_back(number);
      source.push_back(from);
      const int64_t neighbour = row + geometry.row_distance(span);
      pre.push_back(scales == nullptr ? nullptr : scales + neighbour * geometry.extent[2] + dx);
    });
  }
  simd::WindowMerge<T> merge(const WindowGeometry& geometry) const {
    simd::WindowMerge<T> merge{};
    merge.width = geometry.extent[2];
    merge.num_sources = static_cast<int64_t>(tap.size());
    merge.tap = tap.data();
    merge.source = source.data();
    merge.pre = pre.data();
    merge.num_taps = geometry.num_taps;
    return merge;
  }
};

}  // namespace

template <typename T>
Buffer<T> window_sums(const CpuWindowTable<T>& table, const WindowFeatures<T>& features) {
  const WindowGeometry& geometry = table.geometry;
  const int64_t width = geometry.extent[2];
  Buffer<T> sums(host_memory(), geometry.num_nodes());
  for_bands(table, features, [&](const WindowPlanes<T>& planes, int64_t row) {
    const RowSources<T> sources(planes, geometry, row, nullptr);
    std::vector<T> line(static_cast<size_t>(whole_blocks(width)));
    simd::window_kernels<T>().weight_sums(sources.merge(geometry), line.data());
    std::copy_n(line.data(), width, sums.data() + row * width);
  });
  if (table.cell_size == 1) return sums;
  const CellGrid cells = table.cells();
  Buffer<T> lines(host_memory(), cells.fine[0] * cells.fine[1] * width);
  upsample_rows(cells, sums.data(), 1, lines.data());
  Buffer<T> fine(host_memory(), table.num_nodes());
  upsample_along_rows<T>(cells, lines.data(), nullptr, 1, fine.data());
  return fine;
}

namespace {

// weights = or += weight * diag(post) K diag(pre), without the scales where they are nullptr.
template <typename T>
void merge_term(CpuWindowTable<T>& table, const WindowFeatures<T>& features, T weight, bool adds,
                const NodeScales<T>* scales) {
  const WindowGeometry& geometry = table.geometry;
  const T* pre = scales == nullptr ? nullptr : scales->pre.data() + scales->margin;
  const T* post = scales == nullptr ? nullptr : scales->post.data() + scales->margin;
  for_bands(table, features, [&](const WindowPlanes<T>& planes, int64_t row) {
    const RowSources<T> sources(planes, geometry, row, pre);
    simd::WindowMerge<T> merge = sources.merge(geometry);
    merge.post = post == nullptr ? nullptr : post + row * geometry.extent[2];
    merge.scale = weight;
    merge.adds = adds;
    merge.out = table.weights.data() + table.block_begin(row, 0);
    simd::window_kernels<T>().merge_weights(merge);
  });
}

// One normalised term between cells of several nodes: its scales stay at the nodes.
template <typename T>
void keep_scales(CpuWindowTable<T>& table, const WindowTerm<T>& term, const NodeScales<T>& scales) {
  const int64_t count = table.num_nodes();
  table.pre = Buffer<T>(host_memory(), count);
  table.post = Buffer<T>(host_memory(), count);
  for (int64_t i = 0; i < count; ++i) {
    table.pre[i] = scales.pre[scales.margin + i];
    table.post[i] = term.weight * scales.post[scales.margin + i];
  }
}

template <typename T>
void add_term(CpuWindowTable<T>& table, const WindowTerm<T>& term, bool adds) {
  const WindowFeatures<T> features(table.cells(), table.margin(), term.features);
  if (term.normalization == Normalization::none)
    return merge_term<T>(table, features, term.weight, adds, nullptr);
  const NodeScales<T> scales(table, features, term.normalization);
  if (table.cell_size == 1) return merge_term(table, features, term.weight, adds, &scales);
  if (adds) fail_value("normalised kernels between cells need a table each");
  merge_term<T>(table, features, T(1), false, nullptr);
  keep_scales(table, term, scales);
}

}  // namespace

template <typename T>
CpuWindowTable<T>::CpuWindowTable(const CellGrid& grid, WindowShape shape, int64_t filter_size,
                                  bool symmetric)
    : fine(grid.fine),
      phase(grid.phase),
      cell_size(grid.cell_size),
      geometry(grid.coarse, shape, filter_size),
      is_symmetric(symmetric),
      weights(host_memory(),
              window_table_size(geometry.num_rows(), whole_blocks(geometry.extent[2]),
                                geometry.num_taps)) {}

template <typename T>
std::shared_ptr<const CpuWindowTable<T>> make_window_table(const Grid& grid,
                                                           const WindowOptions& options,
                                                           std::span<const WindowTerm<T>> terms) {
  const CellGrid cells = make_cell_grid(grid, options);
  auto table = std::make_shared<CpuWindowTable<T>>(cells, options.shape, options.filter_size,
                                                   has_symmetric_weights(options, terms));
  for (size_t m = 0; m < terms.size(); ++m) add_term(*table, terms[m], m > 0);
  return table;
}

#define DF_INSTANTIATE(T)                                                 \
  template class CpuWindowTable<T>;                                       \
  template std::shared_ptr<const CpuWindowTable<T>> make_window_table(    \
      const Grid&, const WindowOptions&, std::span<const WindowTerm<T>>); \
  template Buffer<T> window_sums(const CpuWindowTable<T>&, const WindowFeatures<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
