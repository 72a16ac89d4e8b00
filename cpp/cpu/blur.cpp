// Blur, maths §4 step 6: one pass per lattice direction; in reverse order, the transpose.
#include <utility>

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

// The filter G of a spatial kernel, axis by axis. It is symmetric, and the axes commute.
template <typename T>
void filter_nodes(const CpuLattice<T>& lattice, CpuVertexRows<T>& rows) {
  int64_t pitch = 1;  // nodes from one to the next along the axis
  for (size_t a = lattice.grid_axes.size(); a-- > 0;) {
    const GridAxis<T>& axis = lattice.grid_axes[a];
    for_vertex_tasks(lattice.vertex_count, [&](int64_t begin, int64_t end) {
      simd::kernels<T>().filter_axis({begin, end, pitch, axis.num_nodes, axis.tap.data(),
                                      static_cast<int64_t>(axis.tap.size()), rows.stride},
                                     rows.nodes.data(), rows.spare.data());
    });
    std::swap(rows.nodes, rows.spare);
    pitch *= axis.num_nodes;
  }
}

}  // namespace

template <typename T>
void blur(const CpuLattice<T>& lattice, bool reverse, CpuVertexRows<T>& rows) {
  if (lattice.grid_axes.empty())
    blur_chains(lattice, reverse, rows);
  else
    filter_nodes(lattice, rows);
  spread_slots(lattice, rows);
}

template void blur(const CpuLattice<float>&, bool, CpuVertexRows<float>&);
template void blur(const CpuLattice<double>&, bool, CpuVertexRows<double>&);

}  // namespace densefield::cpu
