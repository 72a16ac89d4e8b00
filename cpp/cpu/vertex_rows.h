// Values on the vertices of a lattice, on the CPU.
#pragma once

#include <utility>

#include "lattice_tables.h"

namespace densefield::cpu {

// `sums` holds the splatted values by slot; `vertices` and `spare` one row per vertex and,
// behind the last, a row of zeros that stands for missing neighbours. The blur goes back
// and forth between the two. Allocated once and used for every update.
template <typename T>
class CpuVertexRows final : public VertexRows<T> {
 public:
  CpuVertexRows(const CpuLattice<T>& lattice, int64_t row_stride)
      : stride(row_stride),
        sums(host_memory(), lattice.num_slots() * stride),
        vertices(host_memory(), (lattice.vertex_count + 1) * stride),
        spare(host_memory(), (lattice.vertex_count + 1) * stride) {
    for (int64_t c = 0; c < stride; ++c)
      vertices[lattice.vertex_count * stride + c] = spare[lattice.vertex_count * stride + c] = T(0);
  }

  const int64_t stride;
  Buffer<T> sums;
  Buffer<T> vertices;
  Buffer<T> spare;
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
