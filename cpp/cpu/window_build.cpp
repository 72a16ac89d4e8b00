// The weights of a window table: Gaussians of feature differences, normalised, merged.
#include <algorithm>
#include <optional>
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

  // scales: [cells] with margins, or nullptr.
  RowSources(const WindowPlanes<T>& planes, const WindowGeometry& geometry, int64_t row,
             const T* scales) {
    planes.for_taps(row, [&](const WindowRowSpan& span, int64_t number, int64_t dx, const T* from) {
      tap.push_back(number);
      source.push_back(from);
      const int64_t neighbour = row + geometry.row_distance(span);
      pre.push_back(scales == nullptr ? nullptr : scales + neighbour * geometry.extent[2] + dx);
    });
  }
  int64_t size() const { return static_cast<int64_t>(tap.size()); }
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
    simd::window_kernels<T>().weight_sums(width, sources.size(), sources.source.data(),
                                          line.data());
    std::copy_n(line.data(), width, sums.data() + row * width);
  });
  const CellGrid& cells = table.cells;
  if (!cells.has_cells()) return sums;
  Buffer<T> lines(host_memory(), cells.fine[0] * cells.fine[1] * width);
  upsample_rows(cells, sums.data(), 1, lines.data());
  Buffer<T> fine(host_memory(), table.num_nodes());
  upsample_along_rows<T>(cells, lines.data(), nullptr, 1, fine.data());
  return fine;
}

namespace {

// One kernel of a table, with what multiplies its weights.
template <typename T>
struct Kernel {
  Kernel(const CpuWindowTable<T>& table, const WindowTerm<T>& term)
      : features(table.cells, table.margin(), term.features), weight(term.weight) {
    if (term.normalization != Normalization::none)
      scales.emplace(table, features, term.normalization);
  }

  bool is_normalised() const { return scales.has_value(); }
  const T* pre() const { return scales ? scales->pre.data() + scales->margin : nullptr; }
  const T* post() const { return scales ? scales->post.data() + scales->margin : nullptr; }

  WindowFeatures<T> features;
  std::optional<NodeScales<T>> scales;
  T weight;
};

// A normalised kernel between cells of several nodes has its scales and weight at the nodes.
template <typename T>
void keep_scales(CpuWindowTable<T>& table, Kernel<T>& kernel) {
  const int64_t count = table.num_nodes();
  table.pre = Buffer<T>(host_memory(), count);
  table.post = Buffer<T>(host_memory(), count);
  std::copy_n(kernel.pre(), count, table.pre.data());
  std::transform(kernel.post(), kernel.post() + count, table.post.data(),
                 [&](T post) { return kernel.weight * post; });
  kernel.scales.reset();
  kernel.weight = T(1);
}

// weights = sum of weight diag(post) K diag(pre)
template <typename T>
void merge(const std::vector<Kernel<T>>& kernels, CpuWindowTable<T>& table) {
  const WindowGeometry& geometry = table.geometry;
  std::vector<const WindowFeatures<T>*> features;
  for (const Kernel<T>& kernel : kernels) features.push_back(&kernel.features);
  for_bands<T>(table, features, [&](const std::vector<WindowPlanes<T>>& planes, int64_t row) {
    std::vector<RowSources<T>> sources;
    std::vector<simd::WindowMergeTerm<T>> terms;
    sources.reserve(kernels.size());
    for (size_t m = 0; m < kernels.size(); ++m) {
      const RowSources<T>& from = sources.emplace_back(planes[m], geometry, row, kernels[m].pre());
      const T* post = kernels[m].post();
      terms.push_back({from.source.data(), from.pre.data(),
                       post == nullptr ? nullptr : post + row * geometry.extent[2],
                       kernels[m].weight});
    }
    simd::window_kernels<T>().merge_weights({geometry.extent[2], sources[0].size(),
                                             sources[0].tap.data(), static_cast<int>(terms.size()),
                                             terms.data(), geometry.num_taps,
                                             table.weights.data() + table.block_begin(row, 0)});
  });
}

}  // namespace

template <typename T>
CpuWindowTable<T>::CpuWindowTable(const CellGrid& grid, WindowShape shape, int64_t filter_size,
                                  bool symmetric)
    : cells(grid),
      geometry(grid, shape, filter_size),
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
  std::vector<Kernel<T>> kernels;
  kernels.reserve(terms.size());
  for (const WindowTerm<T>& term : terms) kernels.emplace_back(*table, term);
  if (table->cells.has_cells() && std::ranges::any_of(kernels, &Kernel<T>::is_normalised)) {
    if (kernels.size() > 1) fail_value("normalised kernels between cells need a table each");
    keep_scales(*table, kernels.front());
  }
  merge(kernels, *table);
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
