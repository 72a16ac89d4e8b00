// Slice, maths §4 step 7: out = scale * S u; and the kernel's diagonal. Limited by memory.
#include "../cpp/core/diagonal.h"
#include "../cpp/core/grid_kernel.h"
#include "launch.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void slice_kernel(const T* weight,        // [N, corners]
                             const int32_t* corner,  // [N, corners]
                             const T* values,        // [M, C]
                             const T* post,          // [N] or nullptr
                             T scale, int64_t num_points, int corners, int64_t num_channels,
                             T* rows) {  // [N, C] out
  const int64_t i = row_of_group();
  if (i >= num_points) return;
  const T factor = post != nullptr ? scale * post[i] : scale;
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    T sum = T(0);
    for (int k = 0; k < corners; ++k) {
      const int64_t entry = i * corners + k;
      sum += weight[entry] * values[corner[entry] * num_channels + c];
    }
    rows[i * num_channels + c] = factor * sum;
  }
}

template <typename T>
__global__ void lattice_diagonal_kernel(const T* weight,  // [N, d+1]
                                        int64_t num_points, int dim,
                                        T* out) {  // [N] out
  const int64_t i = item_of_thread();
  if (i < num_points) out[i] = lattice_diagonal(dim, weight + i * (dim + 1));
}

// The grid of a spatial kernel, slowest axis first.
template <typename T>
struct GridDiagonal {
  int num_axes;
  int64_t extent[kMaxGridKernelAxes];
  int64_t step[kMaxGridKernelAxes];
  T tap[kMaxGridKernelAxes][2];
};

template <typename T>
__global__ void grid_diagonal_kernel(GridDiagonal<T> grid, int64_t num_points,
                                     T* out) {  // [N] out
  const int64_t i = item_of_thread();
  if (i >= num_points) return;
  T product = T(1);
  int64_t rest = i;
  for (int a = grid.num_axes - 1; a >= 0; --a) {
    const int64_t coordinate = rest % grid.extent[a], step = grid.step[a];
    rest /= grid.extent[a];
    product *=
        node_diagonal(step, grid.tap[a][0], grid.tap[a][1], node_weight<T>(step, coordinate, 0),
                      node_weight<T>(step, coordinate, 1));
  }
  out[i] = product;
}

}  // namespace

template <typename T>
void slice(DeviceMemory& memory, const CudaLattice<T>& lattice, const CudaVertexRows<T>& from,
           const T* post, T scale, T* rows) {
  if (from.num_channels == 0) return;
  launch("slice_kernel", slice_kernel<T>, group_each(lattice.num_points(), from.num_channels),
         memory.stream(), lattice.weight.data(), lattice.corner.data(), from.values.data(), post,
         scale, lattice.num_points(), lattice.corners, from.num_channels, rows);
}

template <typename T>
void diagonal(DeviceMemory& memory, const CudaLattice<T>& lattice, T* out) {
  const int64_t num_points = lattice.num_points();
  if (lattice.grid_axes.empty())
    return launch("lattice_diagonal_kernel", lattice_diagonal_kernel<T>, one_each(num_points),
                  memory.stream(), lattice.weight.data(), num_points, lattice.dimension, out);
  GridDiagonal<T> grid{};
  for (const GridAxis<T>& axis : lattice.grid_axes) {
    const int a = grid.num_axes++;
    grid.extent[a] = lattice.layout->grid().extent[static_cast<std::size_t>(a)];
    grid.step[a] = axis.step;
    grid.tap[a][0] = axis.near[0];
    grid.tap[a][1] = axis.near[1];
  }
  launch("grid_diagonal_kernel", grid_diagonal_kernel<T>, one_each(num_points), memory.stream(),
         grid, num_points, out);
}

#define DF_INSTANTIATE(T)                                                                          \
  template void slice(DeviceMemory&, const CudaLattice<T>&, const CudaVertexRows<T>&, const T*, T, \
                      T*);                                                                         \
  template void diagonal(DeviceMemory&, const CudaLattice<T>&, T*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
