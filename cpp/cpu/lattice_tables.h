// The CPU's tables of a lattice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../core/blur.h"
#include "densefield/buffer.h"
#include "densefield/lattice.h"
#include "layout.h"

namespace densefield::cpu {

// One axis of a spatial kernel on a grid, core/grid_kernel.h.
template <typename T>
struct GridAxis {
  int64_t step;        // grid steps between nodes
  int64_t num_nodes;
  std::vector<T> tap;  // filter on the nodes: taps 0, 1, .. to either side

  int num_corners() const { return step == 1 ? 1 : 2; }
};

// A permutohedral lattice, or, if it has grid axes, the nodes of a spatial kernel: splat and
// slice are the same, the blur is not.
//
// Every block numbers the vertices that its points touch from 0: its "slots". Splatting
// adds into the block's own slots; a vertex is then the sum of its slots in the order of
// the blocks, so the result does not depend on which thread did which block.
template <typename T>
class CpuLattice final : public Lattice<T> {
 public:
  int64_t num_points() const override { return layout->num_nodes(); }
  int64_t num_vertices() const override { return vertex_count; }
  int dim() const override { return dimension; }
  int64_t num_bytes() const override {
    return weight.num_bytes() + corner.num_bytes() + rank.num_bytes() + vertex_of_slot.num_bytes() +
           slot_start.num_bytes() + slots_of_vertex.num_bytes() + neighbour.num_bytes();
  }

  T slice_scale() const override {
    return grid_axes.empty() ? densefield::slice_scale<T>(dimension) : T(1);
  }

  int num_corners() const { return corners; }
  int64_t num_slots() const { return slot_begin.back(); }
  int64_t slots_of_block(int64_t block) const {
    return slot_begin[static_cast<size_t>(block) + 1] - slot_begin[static_cast<size_t>(block)];
  }

  int dimension = 0;
  int corners = 0;  // of a simplex, d+1, or of a grid cell
  int64_t vertex_count = 0;
  std::shared_ptr<const CpuLayout> layout;
  Buffer<T> weight;                 // [N, corners] barycentric
  Buffer<uint16_t> corner;          // [N, corners] slot within the point's block
  Buffer<uint8_t> rank;             // [N, d+1] maths §4 step 2: the weights' derivative needs it
  std::vector<int64_t> slot_begin;  // [blocks + 1] first slot of each block
  Buffer<int32_t> vertex_of_slot;   // [slots]
  Buffer<int64_t> slot_start;       // [M + 1] into slots_of_vertex
  Buffer<int32_t> slots_of_vertex;  // [slots] rising within a vertex
  Buffer<int32_t> neighbour;        // [d+1, M, 2] minus, plus; M where there is none
  std::vector<GridAxis<T>> grid_axes;  // of a spatial kernel, slowest axis first
};

template <typename T>
const CpuLattice<T>& as_cpu(const Lattice<T>& lattice) {
  return static_cast<const CpuLattice<T>&>(lattice);
}

}  // namespace densefield::cpu
