// Values on the vertices of a lattice, on the CPU.
#pragma once

#include "lattice_tables.h"

namespace densefield::cpu {

// One row per slot; a vertex's value stands in its home, and where it has been spread, in all
// its slots. A spatial kernel is filtered from the slots to its nodes, in grid order, and then
// back and forth between two arrays. Allocated once and used for every update.
template <typename T>
class CpuVertexRows final : public VertexRows<T> {
 public:
  CpuVertexRows(const CpuLattice<T>& lattice, int64_t row_stride)
      : stride(row_stride), slots(host_memory(), lattice.num_slots() * stride) {
    if (!lattice.grid) return;
    nodes = Buffer<T>(host_memory(), lattice.vertex_count * stride);
    if (lattice.grid->axes.size() > 1)
      spare = Buffer<T>(host_memory(), lattice.vertex_count * stride);
  }

  int64_t stride;
  Buffer<T> slots;  // [slots, stride] or more, here and below
  Buffer<T> nodes;  // [nodes, stride] of a spatial kernel
  Buffer<T> spare;  // [nodes, stride]
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
