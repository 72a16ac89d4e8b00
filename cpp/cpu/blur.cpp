// Blur, maths §4 step 6: one pass per lattice direction; in reverse order, the transpose.
#include <algorithm>
#include <utility>

#include "densefield/threads.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {

template <typename T>
void blur(const CpuLattice<T>& lattice, bool reverse, CpuVertexRows<T>& rows) {
  constexpr int64_t kGrain = 1024;  // vertices per task: some 10 us
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
