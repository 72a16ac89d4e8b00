// Blur, maths §4 step 6: one kernel per lattice direction; in reverse order, the transpose.
// Limited by memory, and on small lattices by the launches.
#include <utility>

#include "../cpp/core/blur.h"
#include "launch.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void blur_kernel(const T* from,          // [M, C]
                            const int32_t* before,  // [M], -1: missing
                            const int32_t* behind,  // [M], -1: missing
                            int64_t num_vertices, int64_t num_channels,
                            T* to) {  // [M, C] out
  const int64_t v = row_of_group();
  if (v >= num_vertices) return;
  const int64_t left = before[v], right = behind[v];
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x)
    to[v * num_channels + c] =
        blur_tap(left < 0 ? T(0) : from[left * num_channels + c], from[v * num_channels + c],
                 right < 0 ? T(0) : from[right * num_channels + c]);
}

}  // namespace

template <typename T>
void blur(DeviceMemory& memory, const CudaLattice<T>& lattice, bool reverse,
          CudaVertexRows<T>& rows) {
  if (rows.num_channels == 0) return;
  if (!lattice.grid_axes.empty())
    return filter_nodes(memory, lattice, rows.num_channels, -1, rows.values, rows.spare);
  const int64_t num_vertices = lattice.vertex_count;
  for (int step = 0; step <= lattice.dimension; ++step) {
    const int direction = reverse ? lattice.dimension - step : step;
    const int32_t* before = lattice.neighbour.data() + 2 * direction * num_vertices;
    launch("blur_kernel", blur_kernel<T>, group_each(num_vertices, rows.num_channels),
           memory.stream(), rows.values.data(), before, before + num_vertices, num_vertices,
           rows.num_channels, rows.spare.data());
    std::swap(rows.values, rows.spare);
  }
}

template void blur(DeviceMemory&, const CudaLattice<float>&, bool, CudaVertexRows<float>&);
template void blur(DeviceMemory&, const CudaLattice<double>&, bool, CudaVertexRows<double>&);

}  // namespace densefield::cuda
