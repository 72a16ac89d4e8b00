#include "grid_kernel.h"

#include <algorithm>

#include "../core/grid_kernel.h"
#include "../plan/key_layout.h"
#include "densefield/threads.h"

namespace densefield::cpu {
namespace {

template <typename T>
GridAxis<T> make_axis(int64_t extent, int64_t interval, double sigma) {
  GridAxis<T> axis;
  axis.step = node_step(sigma, extent);
  axis.num_nodes = nodes_along(extent, axis.step);
  const double variance = node_variance(sigma, axis.step);
  for (int64_t r = 0; r < num_node_taps(variance, axis.step, axis.num_nodes); ++r) {
    axis.tap.push_back(static_cast<T>(node_tap(sigma, variance, axis.step, r)));
    axis.tap_grad.push_back(static_cast<T>(node_tap_gradient(sigma, variance, axis.step, r)));
  }
  for (int64_t phase = 0; phase < axis.step; ++phase)
    for (int corner = 0; corner < 2; ++corner)
      axis.corner_weight.push_back(node_weight<T>(axis.step, phase, corner));
  axis.first.assign(static_cast<size_t>(axis.num_nodes), INT64_MAX);
  axis.end.assign(static_cast<size_t>(axis.num_nodes), 0);
  for (int64_t begin = 0; begin < extent; begin += interval) {
    const int64_t last = std::min(begin + interval, extent) - 1;
    const int64_t index = axis.num_intervals();
    axis.low.push_back(begin / axis.step);
    axis.high.push_back(last / axis.step + axis.num_corners());
    for (int64_t node = axis.low.back(); node < axis.high.back(); ++node) {
      int64_t& first = axis.first[static_cast<size_t>(node)];
      first = std::min(first, index);
      axis.end[static_cast<size_t>(node)] = index + 1;
    }
  }
  return axis;
}

// A point of a grid of at most kMaxGridKernelAxes axes, slowest first.
using Coordinates = std::array<int64_t, kMaxGridKernelAxes>;

template <typename T>
class GridBuilder {
 public:
  GridBuilder(const CpuLayout& layout, GridTables<T>& tables)
      : layout_(layout), tables_(tables), num_axes_(tables.axes.size()) {
    int64_t pitch = 1;
    for (size_t a = num_axes_; a-- > 0; pitch *= tables_.axes[a].num_nodes) node_pitch_[a] = pitch;
  }

  void list_lines() {
    for (size_t a = 0; a + 1 < num_axes_; ++a) tables_.num_lines *= axis(a).num_corners();
    for (int o = 0; o < tables_.num_lines; ++o)
      tables_.line_node[static_cast<size_t>(o)] = line_offset(o, node_pitch_);
  }

  // The number of nodes in a block's box, and how its lines and runs lie in it.
  int64_t place_block(int64_t index) {
    const Block& block = layout_.blocks()[static_cast<size_t>(index)];
    Coordinates low{}, box_pitch{};
    int64_t rest = index, size = 1;
    for (size_t a = num_axes_; a-- > 0; rest /= axis(a).num_intervals()) {
      const auto interval = static_cast<size_t>(rest % axis(a).num_intervals());
      low[a] = axis(a).low[interval];
      box_pitch[a] = size;
      size *= axis(a).high[interval] - low[a];
    }
    for (int o = 0; o < tables_.num_lines; ++o)
      tables_.line_slot[static_cast<size_t>(index)][static_cast<size_t>(o)] =
          line_offset(o, box_pitch);
    for (int64_t r = block.run_begin; r < block.run_end; ++r)
      tables_.runs[static_cast<size_t>(r)] = place_run(layout_.run(r), low, box_pitch);
    return size;
  }

 private:
  const GridAxis<T>& axis(size_t a) const { return tables_.axes[a]; }

  // Corners across the outer axes in C order: from line 0 to line `o`.
  int64_t line_offset(int o, const Coordinates& pitch) const {
    int64_t offset = 0;
    for (size_t a = num_axes_ - 1; a-- > 0; o /= axis(a).num_corners())
      offset += o % axis(a).num_corners() * pitch[a];
    return offset;
  }

  simd::GridRun<T> place_run(const Run& run, const Coordinates& low,
                             const Coordinates& box_pitch) const {
    simd::GridRun<T> placed{};
    placed.length = run.length;
    Coordinates coordinate{};
    int64_t rest = run.node;
    for (size_t a = num_axes_; a-- > 0;) {
      const int64_t extent = layout_.grid().extent[a];
      coordinate[a] = rest % extent;
      rest /= extent;
      const int64_t node = coordinate[a] / axis(a).step;
      placed.node += node * node_pitch_[a];
      placed.slot += (node - low[a]) * box_pitch[a];
    }
    placed.position = coordinate[num_axes_ - 1];
    for (int line = 0; line < tables_.num_lines; ++line) {
      T weight = T(1);
      int o = line;
      for (size_t a = num_axes_ - 1; a-- > 0; o /= axis(a).num_corners())
        weight *= axis(a).corner_weight[static_cast<size_t>(coordinate[a] % axis(a).step * 2 +
                                                            o % axis(a).num_corners())];
      placed.line_weight[line] = weight;
    }
    return placed;
  }

  const CpuLayout& layout_;
  GridTables<T>& tables_;
  const size_t num_axes_;
  Coordinates node_pitch_{};
};

}  // namespace

template <typename T>
std::shared_ptr<const CpuLattice<T>> build_grid_kernel(std::shared_ptr<const CpuLayout> layout,
                                                       const std::vector<T>& sigma) {
  auto tables = std::make_unique<GridTables<T>>();
  const auto& extent = layout->grid().extent;
  auto lattice = std::make_shared<CpuLattice<T>>();
  lattice->vertex_count = 1;
  for (size_t a = 0; a < extent.size(); ++a) {
    tables->axes.push_back(make_axis<T>(extent[a], layout->block_extent()[a], double(sigma[a])));
    lattice->vertex_count *= tables->axes[a].num_nodes;
  }
  lattice->dimension = static_cast<int>(extent.size());

  const int64_t num_blocks = layout->num_blocks();
  GridBuilder<T> builder(*layout, *tables);
  builder.list_lines();
  tables->runs.resize(static_cast<size_t>(layout->num_runs()));
  tables->line_slot.resize(static_cast<size_t>(num_blocks));
  lattice->slot_begin.assign(static_cast<size_t>(num_blocks) + 1, 0);
  parallel_for(num_blocks, [&](int64_t index, int) {
    lattice->slot_begin[static_cast<size_t>(index) + 1] = builder.place_block(index);
  });
  for (size_t i = 1; i < lattice->slot_begin.size(); ++i)
    lattice->slot_begin[i] += lattice->slot_begin[i - 1];
  check_vertex_count(std::max(lattice->vertex_count, lattice->num_slots()));
  lattice->layout = std::move(layout);
  lattice->grid = std::move(tables);
  return lattice;
}

template std::shared_ptr<const CpuLattice<float>> build_grid_kernel(
    std::shared_ptr<const CpuLayout>, const std::vector<float>&);
template std::shared_ptr<const CpuLattice<double>> build_grid_kernel(
    std::shared_ptr<const CpuLayout>, const std::vector<double>&);

}  // namespace densefield::cpu
