// Splat, maths §4 step 5: u = S^T v. Bound by the bandwidth of the vertex rows.
#include <algorithm>
#include <cstring>

#include "densefield/threads.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {

template <typename T>
void splat(const CpuLattice<T>& lattice, const T* rows, const T* pre, CpuVertexRows<T>& out) {
  const int corners = lattice.num_corners();
  parallel_for(lattice.layout->num_blocks(), num_threads(), [&](int64_t index, int) {
    const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
    T* sums = out.sums.data() + lattice.slot_begin[static_cast<size_t>(index)] * out.stride;
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
  constexpr int64_t kGrain = 1024;  // vertices per task: some 10 us
  const int64_t num_tasks = (lattice.vertex_count + kGrain - 1) / kGrain;
  parallel_for(num_tasks, num_threads(), [&](int64_t task, int) {
    simd::kernels<T>().sum_rows(lattice.slot_start.data(), lattice.slots_of_vertex.data(),
                                task * kGrain, std::min(lattice.vertex_count, (task + 1) * kGrain),
                                rows.sums.data(), rows.vertices.data(), rows.stride);
  });
}

template void splat(const CpuLattice<float>&, const float*, const float*, CpuVertexRows<float>&);
template void splat(const CpuLattice<double>&, const double*, const double*,
                    CpuVertexRows<double>&);
template void sum_slots(const CpuLattice<float>&, CpuVertexRows<float>&);
template void sum_slots(const CpuLattice<double>&, CpuVertexRows<double>&);

}  // namespace densefield::cpu
