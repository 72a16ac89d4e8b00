// Blur, maths §4 step 6: one pass per lattice direction; in reverse order, the transpose.
#include "simd/kernels.h"
#include "steps.h"
#include "vertex_tasks.h"

namespace densefield::cpu {
namespace {

// In place, along chains of neighbours: every row is read once, and vertices that have no
// neighbour in a direction (most of them on textured images) are not touched.
template <typename T>
void blur_chains(const CpuLattice<T>& lattice, bool reverse, CpuVertexRows<T>& rows) {
  for (int step = 0; step <= lattice.dimension; ++step) {
    const int direction = reverse ? lattice.dimension - step : step;
    const SlotLists& chains = lattice.chains[static_cast<size_t>(direction)];
    for_vertex_tasks(chains.num_lists(), [&](int64_t begin, int64_t end) {
      simd::kernels<T>().blur_chains(chains.start.data(), chains.slot.data(), begin, end,
                                     rows.slots.data(), rows.stride);
    });
  }
}

}  // namespace

template <typename T>
void blur(const CpuLattice<T>& lattice, bool reverse, CpuVertexRows<T>& rows) {
  if (lattice.grid) return filter_grid(lattice, rows);  // symmetric, and the axes commute
  blur_chains(lattice, reverse, rows);
  spread_slots(lattice, rows);
}

template void blur(const CpuLattice<float>&, bool, CpuVertexRows<float>&);
template void blur(const CpuLattice<double>&, bool, CpuVertexRows<double>&);

}  // namespace densefield::cpu
