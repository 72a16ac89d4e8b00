// The CPU's tables of a lattice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../core/blur.h"
#include "densefield/buffer.h"
#include "densefield/lattice.h"
#include "grid_tables.h"
#include "layout.h"
#include "point_ranks.h"

namespace densefield::cpu {

// Lists of slots one behind the other: list i is slot[start[i]] .. slot[start[i+1] - 1].
struct SlotLists {
  std::vector<int64_t> start = {0};
  std::vector<int32_t> slot;

  int64_t num_lists() const { return static_cast<int64_t>(start.size()) - 1; }
  int64_t num_bytes() const {
    return static_cast<int64_t>(start.size() * sizeof(int64_t) + slot.size() * sizeof(int32_t));
  }
};

// A permutohedral lattice, or, if it has `grid`, a spatial kernel on its nodes.
//
// Every block numbers the vertices that its points touch from 0: its "slots". Splatting
// adds into the block's own slots; a vertex is then the sum of its slots in the order of
// the blocks, so the result does not depend on which thread did which block. The sum stands
// in the vertex's first slot, its home: there is no other array of vertices.
template <typename T>
class CpuLattice final : public Lattice<T> {
 public:
  int64_t num_points() const override { return layout->num_nodes(); }
  int64_t num_vertices() const override { return vertex_count; }
  int dim() const override { return dimension; }
  int num_grid_axes() const override { return grid ? static_cast<int>(grid->axes.size()) : 0; }
  int64_t num_bytes() const override {
    int64_t total = weight.num_bytes() + corner.num_bytes() + ranks.num_bytes() + home.num_bytes() +
                    shared.num_bytes() + (grid ? grid->num_bytes() : 0);
    for (const SlotLists& direction : chains) total += direction.num_bytes();
    return total;
  }

  T slice_scale() const override { return grid ? T(1) : densefield::slice_scale<T>(dimension); }

  int num_corners() const { return corners; }
  int64_t num_slots() const { return slot_begin.back(); }
  int64_t slots_of_block(int64_t block) const {
    return slot_begin[static_cast<size_t>(block) + 1] - slot_begin[static_cast<size_t>(block)];
  }

  int dimension = 0;
  int corners = 0;  // of a simplex, d+1
  int64_t vertex_count = 0;
  std::shared_ptr<const CpuLayout> layout;
  Buffer<T> weight;         // [N, corners] barycentric
  Buffer<uint16_t> corner;  // [N, corners] slot within the point's block
  PointRanks ranks;
  std::vector<int64_t> slot_begin;  // [blocks + 1] first slot of each block

  // Permutohedral lattice.
  Buffer<int32_t> home;           // [M] first slot of a vertex
  SlotLists shared;               // the slots of each vertex that has several, home first
  std::vector<SlotLists> chains;  // [d+1] homes of neighbours in a row, along each direction

  // Spatial kernel: its slots are the nodes of the blocks' boxes, and all above is empty.
  std::unique_ptr<const GridTables<T>> grid;
};

template <typename T>
const CpuLattice<T>& as_cpu(const Lattice<T>& lattice) {
  return static_cast<const CpuLattice<T>&>(lattice);
}

}  // namespace densefield::cpu
