// Blur, maths §4 step 6: one pass per lattice direction; in reverse order, the transpose.
#include <algorithm>
#include <utility>

#include "densefield/threads.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {

namespace {

constexpr int64_t kGrain = 1024;  // vertices per task: some 10 us

// The filter G of a spatial kernel, axis by axis. It is symmetric, and the axes commute.
template <typename T>
void filter_nodes(const CpuLattice<T>& lattice, CpuVertexRows<T>& rows) {
  int64_t pitch = 1;  // nodes from one to the next along the axis
  for (size_t a = lattice.grid_axes.size(); a-- > 0;) {
    const GridAxis<T>& axis = lattice.grid_axes[a];
    const int64_t num_tasks = (lattice.vertex_count + kGrain - 1) / kGrain;
    parallel_for(num_tasks, [&](int64_t task, int) {
      simd::kernels<T>().filter_axis({task * kGrain,
                                      std::min(lattice.vertex_count, (task + 1) * kGrain), pitch,
                                      axis.num_nodes, axis.tap.data(),
                                      static_cast<int64_t>(axis.tap.size()), rows.stride},
                                     rows.vertices.data(), rows.spare.data());
    });
    std::swap(rows.vertices, rows.spare);
    pitch *= axis.num_nodes;
  }
}

}  // namespace

template <typename T>
void blur(const CpuLattice<T>& lattice, bool reverse, CpuVertexRows<T>& rows) {
  if (!lattice.grid_axes.empty()) return filter_nodes(lattice, rows);
  const int64_t num_vertices = lattice.vertex_count;
  const int64_t num_tasks = (num_vertices + kGrain - 1) / kGrain;
  for (int step = 0; step <= lattice.dimension; ++step) {
    const int direction = reverse ? lattice.dimension - step : step;
    const int32_t* neighbour = lattice.neighbour.data() + direction * num_vertices * 2;
    parallel_for(num_tasks, num_threads(), [&](int64_t task, int) {
      simd::kernels<T>().blur(neighbour, task * kGrain, std::min(num_vertices, (task + 1) * kGrain),
                              rows.vertices.data(), rows.spare.data(), rows.stride);
    });
    std::swap(rows.vertices, rows.spare);
  }
}

template void blur(const CpuLattice<float>&, bool, CpuVertexRows<float>&);
template void blur(const CpuLattice<double>&, bool, CpuVertexRows<double>&);

}  // namespace densefield::cpu
