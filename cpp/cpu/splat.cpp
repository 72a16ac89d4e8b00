// Splat, maths §4 step 5: u = S^T v. Bound by the bandwidth of the vertex rows.
#include <cstring>

#include "densefield/threads.h"
#include "simd/kernels.h"
#include "steps.h"
#include "vertex_tasks.h"

namespace densefield::cpu {

template <typename T>
void splat(const CpuLattice<T>& lattice, const T* rows, const T* pre, CpuVertexRows<T>& out) {
  if (lattice.grid) return splat_grid(lattice, rows, pre, out);
  const int corners = lattice.num_corners();
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
    T* sums = out.slots.data() + lattice.slot_begin[static_cast<size_t>(index)] * out.stride;
    std::memset(sums, 0,
                static_cast<size_t>(lattice.slots_of_block(index) * out.stride) * sizeof(T));
    const int64_t first = block.begin * corners;
    simd::kernels<T>().splat({block.end - block.begin, corners, lattice.weight.data() + first,
                              lattice.corner.data() + first},
                             rows + block.begin * out.stride,
                             pre != nullptr ? pre + block.begin : nullptr, sums, out.stride);
  });
  sum_slots(lattice, out);
}

template <typename T>
void sum_slots(const CpuLattice<T>& lattice, CpuVertexRows<T>& rows) {
  const SlotLists& shared = lattice.shared;  // a spatial kernel has none
  for_vertex_tasks(shared.num_lists(), [&](int64_t begin, int64_t end) {
    simd::kernels<T>().join_rows(shared.start.data(), shared.slot.data(), begin, end,
                                 rows.slots.data(), rows.stride);
  });
}

template <typename T>
void spread_slots(const CpuLattice<T>& lattice, CpuVertexRows<T>& rows) {
  const SlotLists& shared = lattice.shared;
  for_vertex_tasks(shared.num_lists(), [&](int64_t begin, int64_t end) {
    simd::kernels<T>().spread_rows(shared.start.data(), shared.slot.data(), begin, end,
                                   rows.slots.data(), rows.stride);
  });
}

#define DF_INSTANTIATE(T)                                                           \
  template void splat(const CpuLattice<T>&, const T*, const T*, CpuVertexRows<T>&); \
  template void sum_slots(const CpuLattice<T>&, CpuVertexRows<T>&);                 \
  template void spread_slots(const CpuLattice<T>&, CpuVertexRows<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
