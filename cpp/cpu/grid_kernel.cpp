#include "grid_kernel.h"

#include <algorithm>
#include <cmath>

#include "../core/grid_kernel.h"
#include "build.h"
#include "densefield/threads.h"

namespace densefield::cpu {
namespace {

// Grid steps between nodes: about the widest that keep the relative error of a normalised
// filter below 0.3 % on images with sharp edges (measured; on noise it is smaller).
int64_t node_step(double sigma, int64_t extent) {
  constexpr double kSmallestForTwo = 3.0, kSigmaPerStep = 3.0;
  if (sigma < kSmallestForTwo || extent == 1) return 1;
  return static_cast<int64_t>(std::min(std::max(2.0, sigma / kSigmaPerStep), double(extent)));
}

// Where the filter on the nodes is cut: what is left out is below 3e-4 of the sum.
constexpr double kReach = 3.5;

template <typename T>
GridAxis<T> make_axis(int64_t extent, double sigma) {
  GridAxis<T> axis;
  axis.step = node_step(sigma, extent);
  axis.num_nodes = axis.step == 1 ? extent : (extent - 1) / axis.step + 2;
  const double variance = node_variance(sigma, axis.step);
  const double reach = std::min(kReach * std::sqrt(variance), double(axis.num_nodes - 1));
  for (int64_t r = 0; r <= static_cast<int64_t>(std::ceil(reach)); ++r)
    axis.tap.push_back(static_cast<T>(node_tap(sigma, variance, axis.step, r)));
  return axis;
}

// A box of nodes that the points of a block touch, in C order.
struct NodeBox {
  std::vector<int64_t> low, high;  // per axis, [low, high)

  int64_t size() const {
    int64_t count = 1;
    for (size_t a = 0; a < low.size(); ++a) count *= high[a] - low[a];
    return count;
  }
};

std::vector<int64_t> coordinates_of(int64_t node, const std::vector<int64_t>& extent) {
  std::vector<int64_t> coordinate(extent.size());
  for (size_t a = extent.size(); a-- > 0;) {
    coordinate[a] = node % extent[a];
    node /= extent[a];
  }
  return coordinate;
}

template <typename T>
class GridBuilder {
 public:
  GridBuilder(CpuLattice<T>& lattice, const std::vector<GridAxis<T>>& axes)
      : lattice_(lattice), layout_(*lattice.layout), axes_(axes) {
    for (const GridAxis<T>& axis : axes_) node_extent_.push_back(axis.num_nodes);
  }

  NodeBox box_of(const Block& block) const {
    NodeBox box{std::vector<int64_t>(axes_.size(), INT64_MAX),
                std::vector<int64_t>(axes_.size(), 0)};
    for (int64_t r = block.run_begin; r < block.run_end; ++r) {
      const Run& run = layout_.run(r);
      const auto first = coordinates_of(run.node, layout_.grid().extent);
      for (size_t a = 0; a < axes_.size(); ++a) {
        const int64_t last = first[a] + (a + 1 == axes_.size() ? run.length - 1 : 0);
        box.low[a] = std::min(box.low[a], first[a] / axes_[a].step);
        box.high[a] = std::max(box.high[a], last / axes_[a].step + axes_[a].num_corners());
      }
    }
    return box;
  }

  void list_nodes(const NodeBox& box, int32_t* node_of_slot) const {
    std::vector<int64_t> extent;
    for (size_t a = 0; a < axes_.size(); ++a) extent.push_back(box.high[a] - box.low[a]);
    for (int64_t slot = 0; slot < box.size(); ++slot) {
      const auto offset = coordinates_of(slot, extent);
      int64_t node = 0;
      for (size_t a = 0; a < axes_.size(); ++a)
        node = node * node_extent_[a] + box.low[a] + offset[a];
      node_of_slot[slot] = static_cast<int32_t>(node);
    }
  }

  // Weights and corners: the products over the axes, the last axis' corner changing first.
  void place_points(const Block& block, const NodeBox& box) const {
    int64_t point = block.begin;
    const int corners = lattice_.num_corners();
    for (int64_t r = block.run_begin; r < block.run_end; ++r) {
      const Run& run = layout_.run(r);
      auto coordinate = coordinates_of(run.node, layout_.grid().extent);
      for (int64_t i = 0; i < run.length; ++i, ++point, ++coordinate.back())
        place_point(coordinate, box, lattice_.weight.data() + point * corners,
                    lattice_.corner.data() + point * corners);
    }
  }

 private:
  void place_point(const std::vector<int64_t>& coordinate, const NodeBox& box, T* weight,
                   uint16_t* corner) const {
    int count = 1;
    weight[0] = T(1);
    int64_t slot[1 << kMaxGridKernelAxes] = {0};
    for (size_t a = 0; a < axes_.size(); ++a) {
      const int per_axis = axes_[a].num_corners();
      for (int k = count * per_axis - 1; k >= 0; --k) {
        weight[k] =
            weight[k / per_axis] * node_weight<T>(axes_[a].step, coordinate[a], k % per_axis);
        slot[k] = slot[k / per_axis] * (box.high[a] - box.low[a]) + coordinate[a] / axes_[a].step -
                  box.low[a] + k % per_axis;
      }
      count *= per_axis;
    }
    for (int k = 0; k < count; ++k) corner[k] = static_cast<uint16_t>(slot[k]);
  }

  CpuLattice<T>& lattice_;
  const CpuLayout& layout_;
  const std::vector<GridAxis<T>>& axes_;
  std::vector<int64_t> node_extent_;
};

// slots_of_node by counting sort, which keeps the order of the blocks.
template <typename T>
void list_slots(CpuLattice<T>& lattice) {
  const auto num_nodes = static_cast<size_t>(lattice.vertex_count);
  const int64_t num_slots = lattice.num_slots();
  SlotLists& lists = lattice.slots_of_node;
  lists.start.assign(num_nodes + 1, 0);
  lists.slot.resize(static_cast<size_t>(num_slots));
  for (int64_t s = 0; s < num_slots; ++s)
    ++lists.start[static_cast<size_t>(lattice.node_of_slot[s]) + 1];
  for (size_t v = 0; v < num_nodes; ++v) lists.start[v + 1] += lists.start[v];
  std::vector<int64_t> next(lists.start.begin(), lists.start.end() - 1);
  for (int64_t s = 0; s < num_slots; ++s)
    lists.slot[static_cast<size_t>(next[static_cast<size_t>(lattice.node_of_slot[s])]++)] =
        static_cast<int32_t>(s);
}

}  // namespace

template <typename T>
std::shared_ptr<const CpuLattice<T>> build_grid_kernel(std::shared_ptr<const CpuLayout> layout,
                                                       const std::vector<T>& sigma) {
  auto lattice = std::make_shared<CpuLattice<T>>();
  lattice->layout = std::move(layout);
  const auto& extent = lattice->layout->grid().extent;
  int corners = 1;
  lattice->vertex_count = 1;
  for (size_t a = 0; a < extent.size(); ++a) {
    lattice->grid_axes.push_back(make_axis<T>(extent[a], double(sigma[a])));
    corners *= lattice->grid_axes[a].num_corners();
    lattice->vertex_count *= lattice->grid_axes[a].num_nodes;
  }
  lattice->dimension = static_cast<int>(extent.size());
  lattice->corners = corners;
  lattice->weight = Buffer<T>(host_memory(), lattice->num_points() * corners);
  lattice->corner = Buffer<uint16_t>(host_memory(), lattice->num_points() * corners);

  const GridBuilder<T> builder(*lattice, lattice->grid_axes);
  const auto& blocks = lattice->layout->blocks();
  std::vector<NodeBox> boxes;
  lattice->slot_begin.assign(1, 0);
  for (const Block& block : blocks) {
    boxes.push_back(builder.box_of(block));
    lattice->slot_begin.push_back(lattice->slot_begin.back() + boxes.back().size());
  }
  check_vertex_count(std::max(lattice->vertex_count, lattice->num_slots()));
  lattice->node_of_slot = Buffer<int32_t>(host_memory(), lattice->num_slots());
  parallel_for(lattice->layout->num_blocks(), [&](int64_t index, int) {
    const auto i = static_cast<size_t>(index);
    builder.list_nodes(boxes[i], lattice->node_of_slot.data() + lattice->slot_begin[i]);
    builder.place_points(blocks[i], boxes[i]);
  });
  list_slots(*lattice);
  return lattice;
}

template std::shared_ptr<const CpuLattice<float>> build_grid_kernel(
    std::shared_ptr<const CpuLayout>, const std::vector<float>&);
template std::shared_ptr<const CpuLattice<double>> build_grid_kernel(
    std::shared_ptr<const CpuLayout>, const std::vector<double>&);

}  // namespace densefield::cpu
