// Values on the vertices of a lattice, on the CPU.
#pragma once

#include <algorithm>

#include "lattice_tables.h"

namespace densefield::cpu {

// One row per slot; a vertex's value stands in its home, and where it has been spread, in all
// its slots. A spatial kernel is filtered from the slots to its nodes, in grid order, and then
// back and forth between the two arrays. Allocated once and used for every update.
template <typename T>
class CpuVertexRows final : public VertexRows<T> {
 public:
  CpuVertexRows(const CpuLattice<T>& lattice, int64_t row_stride) : stride(row_stride) {
    // Slots and nodes of a spatial kernel change places.
    const int64_t num_rows =
        lattice.grid ? std::max(lattice.num_slots(), lattice.vertex_count) : lattice.num_slots();
    slots = Buffer<T>(host_memory(), num_rows * stride);
    if (lattice.grid) nodes = Buffer<T>(host_memory(), num_rows * stride);
  }

  int64_t stride;
  Buffer<T> slots;  // [slots, stride] or more, here and below
  Buffer<T> nodes;  // [nodes, stride] of a spatial kernel
  Buffer<T> spare;  // [nodes, stride] where the slots are needed after a filter
};

template <typename T>
CpuVertexRows<T>& as_cpu(VertexRows<T>& rows) {
  return static_cast<CpuVertexRows<T>&>(rows);
}
template <typename T>
const CpuVertexRows<T>& as_cpu(const VertexRows<T>& rows) {
  return static_cast<const CpuVertexRows<T>&>(rows);
}

}  // namespace densefield::cpu
