// The CPU's tables of a lattice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "densefield/buffer.h"
#include "densefield/lattice.h"
#include "layout.h"

namespace densefield::cpu {

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

  int num_corners() const { return dimension + 1; }
  int64_t num_slots() const { return slot_begin.back(); }
  int64_t slots_of_block(int64_t block) const {
    return slot_begin[static_cast<size_t>(block) + 1] - slot_begin[static_cast<size_t>(block)];
  }

  int dimension = 0;
  int64_t vertex_count = 0;
  std::shared_ptr<const CpuLayout> layout;
  Buffer<T> weight;                 // [N, d+1] barycentric
  Buffer<uint16_t> corner;          // [N, d+1] slot within the point's block
  Buffer<uint8_t> rank;             // [N, d+1] maths §4 step 2: the weights' derivative needs it
  std::vector<int64_t> slot_begin;  // [blocks + 1] first slot of each block
  Buffer<int32_t> vertex_of_slot;   // [slots]
  Buffer<int64_t> slot_start;       // [M + 1] into slots_of_vertex
  Buffer<int32_t> slots_of_vertex;  // [slots] rising within a vertex
  Buffer<int32_t> neighbour;        // [d+1, M, 2] minus, plus; M where there is none
};

template <typename T>
const CpuLattice<T>& as_cpu(const Lattice<T>& lattice) {
  return static_cast<const CpuLattice<T>&>(lattice);
}

}  // namespace densefield::cpu
