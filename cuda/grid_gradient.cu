// Gradients of the spatial kernel on a grid by its standard deviations, and of the diagonals of
// both kinds of kernel.
#include "../cpp/core/diagonal.h"
#include "../cpp/core/grid_kernel.h"
#include "reduce.cuh"
#include "reverse_steps.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

// Sum over the rows of a . b.
template <typename T>
__global__ void product_kernel(const T* a,  // [rows, C]
                               const T* b,  // [rows, C]
                               int64_t num_rows, int64_t num_channels,
                               double* part) {  // [blocks] out
  DF_SHARED(double, shared, kBlock);
  double sum = 0;
  for_rows(num_rows, [&](int64_t i) {
    for (int64_t c = 0; c < num_channels; ++c)
      sum += double(a[i * num_channels + c]) * double(b[i * num_channels + c]);
  });
  sum = sum_of_block(sum, shared);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

template <typename T>
__global__ void diagonal_gradient_kernel(const T* weight,  // [N, d+1]
                                         const T* grad,    // [N]
                                         int64_t num_entries, int dim,
                                         T* grad_weight) {  // [N, d+1] added to
  const int64_t e = item_of_thread();
  if (e >= num_entries) return;
  const int64_t i = e / (dim + 1);
  grad_weight[e] += grad[i] * lattice_diagonal_gradient(dim, weight + i * (dim + 1),
                                                        static_cast<int>(e - i * (dim + 1)));
}

// The grid of a spatial kernel, slowest axis first, with the taps next to the middle and their
// derivatives.
template <typename T>
struct GridTaps {
  int num_axes;
  int64_t extent[kMaxGridKernelAxes];
  int64_t step[kMaxGridKernelAxes];
  T tap[kMaxGridKernelAxes][2];
  T tap_grad[kMaxGridKernelAxes][2];
};

// Sum over the points of grad dK_ii / dsigma of one axis: K_ii is a product over the axes.
template <typename T>
__global__ void grid_diagonal_gradient_kernel(GridTaps<T> grid, int derived,
                                              const T* grad,  // [N]
                                              int64_t num_points,
                                              double* part) {  // [blocks] out
  DF_SHARED(double, shared, kBlock);
  double sum = 0;
  for_rows(num_points, [&](int64_t i) {
    T product = grad[i];
    int64_t rest = i;
    for (int a = grid.num_axes - 1; a >= 0; --a) {
      const int64_t coordinate = rest % grid.extent[a], step = grid.step[a];
      rest /= grid.extent[a];
      const T own = a == derived ? grid.tap_grad[a][0] : grid.tap[a][0];
      const T next = a == derived ? grid.tap_grad[a][1] : grid.tap[a][1];
      product *= node_diagonal(step, own, next, node_weight<T>(step, coordinate, 0),
                               node_weight<T>(step, coordinate, 1));
    }
    sum += double(product);
  });
  sum = sum_of_block(sum, shared);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

// Of the first `count` parts.
double total_of(const DeviceMemory& memory, const Buffer<double>& part, int64_t count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  download(memory, part.data(), count, values.data());
  double total = 0;
  for (double value : values) total += value;
  return total;
}

}  // namespace

template <typename T>
GridProducts<T> make_grid_products(DeviceMemory& memory, int64_t num_vertices,
                                   int64_t num_channels) {
  const int64_t size = num_vertices * num_channels;
  return {Buffer<T>(memory, size), Buffer<T>(memory, size),
          Buffer<double>(memory, blocks_of_rows(num_vertices).grid.x)};
}

// K = B G B^T with G a product over the axes, whose derivative replaces one factor by that of
// its taps.
template <typename T>
void grid_sigma_gradient(DeviceMemory& memory, const CudaLattice<T>& lattice,
                         const CudaVertexRows<T>& values, const CudaVertexRows<T>& gradients,
                         const CompatibilityTable<T>* table, int64_t num_channels, double scale,
                         GridProducts<T>& work, double* grad_sigma) {
  if (num_channels == 0) return;
  const LaunchShape shape = blocks_of_rows(lattice.vertex_count);
  for (int a = 0; a < lattice.num_grid_axes(); ++a) {
    copy<T>(memory, values.values.data(), values.values.size(), work.filtered.data());
    filter_nodes(memory, lattice, num_channels, a, work.filtered, work.spare);
    const Buffer<T>* product = &work.filtered;
    if (table != nullptr) {
      multiply_table<T>(memory, table->form, table->values.data(), work.filtered.data(),
                        lattice.vertex_count, num_channels, false, work.spare.data());
      product = &work.spare;
    }
    launch("product_kernel", product_kernel<T>, shape, memory.stream(), product->data(),
           gradients.values.data(), lattice.vertex_count, num_channels, work.part.data());
    grad_sigma[a] += scale * total_of(memory, work.part, shape.grid.x);
  }
}

template <typename T>
void diagonal_gradient(DeviceMemory& memory, const CudaLattice<T>& lattice, const T* grad,
                       T* grad_weight, double* grad_sigma) {
  const int64_t num_points = lattice.num_points();
  if (lattice.grid_axes.empty()) {
    const int64_t num_entries = num_points * lattice.corners;
    return launch("diagonal_gradient_kernel", diagonal_gradient_kernel<T>, one_each(num_entries),
                  memory.stream(), lattice.weight.data(), grad, num_entries, lattice.dimension,
                  grad_weight);
  }
  GridTaps<T> grid{};
  for (const GridAxis<T>& axis : lattice.grid_axes) {
    const int a = grid.num_axes++;
    grid.extent[a] = lattice.layout->grid().extent[static_cast<std::size_t>(a)];
    grid.step[a] = axis.step;
    for (int r = 0; r < 2; ++r) {
      grid.tap[a][r] = axis.near[r];
      grid.tap_grad[a][r] = axis.near_grad[r];
    }
  }
  const LaunchShape shape = blocks_of_rows(num_points);
  Buffer<double> part(memory, shape.grid.x);
  for (int a = 0; a < grid.num_axes; ++a) {
    launch("grid_diagonal_gradient_kernel", grid_diagonal_gradient_kernel<T>, shape,
           memory.stream(), grid, a, grad, num_points, part.data());
    grad_sigma[a] += total_of(memory, part, part.size());
  }
}

#define DF_INSTANTIATE(T)                                                                       \
  template GridProducts<T> make_grid_products(DeviceMemory&, int64_t, int64_t);                 \
  template void grid_sigma_gradient(                                                            \
      DeviceMemory&, const CudaLattice<T>&, const CudaVertexRows<T>&, const CudaVertexRows<T>&, \
      const CompatibilityTable<T>*, int64_t, double, GridProducts<T>&, double*);                \
  template void diagonal_gradient(DeviceMemory&, const CudaLattice<T>&, const T*, T*, double*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
