// The spatial Gaussian on a grid, without a permutohedral lattice: core/grid_kernel.h.
#include <bit>
#include <utility>

#include "../cpp/core/grid_kernel.h"
#include "../cpp/plan/key_layout.h"
#include "launch.cuh"
#include "point_lists.cuh"
#include "sort.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

// The grids of points and of nodes, slowest axis first.
struct GridShapes {
  int num_axes;
  int64_t extent[kMaxGridKernelAxes];
  int64_t step[kMaxGridKernelAxes];
  int64_t num_nodes[kMaxGridKernelAxes];
};

// A point's corners: products over the axes, the last axis' corner changing first.
template <typename T>
__global__ void place_points_kernel(GridShapes shapes, int64_t num_points, int corners,
                                    T* weight,          // [N, corners] out
                                    int32_t* corner,    // [N, corners] out, node
                                    uint64_t* key,      // [N, corners] out, the same
                                    int32_t* number) {  // [N, corners] out, 0, 1, ..
  const int64_t entry = item_of_thread();
  if (entry >= num_points * corners) return;
  int64_t point = entry / corners, pitch = 1, node = 0;
  auto which = static_cast<int>(entry - point * corners);
  T product = T(1);
  for (int a = shapes.num_axes - 1; a >= 0; --a) {
    const int64_t coordinate = point % shapes.extent[a];
    point /= shapes.extent[a];
    const int per_axis = shapes.step[a] == 1 ? 1 : 2;
    const int own = which % per_axis;
    which /= per_axis;
    product *= node_weight<T>(shapes.step[a], coordinate, own);
    node += (coordinate / shapes.step[a] + own) * pitch;
    pitch *= shapes.num_nodes[a];
  }
  weight[entry] = product;
  corner[entry] = static_cast<int32_t>(node);
  key[entry] = static_cast<uint64_t>(node);
  number[entry] = static_cast<int32_t>(entry);
}

// The first entry of every node among the sorted ones.
__global__ void find_begin_kernel(const uint64_t* key,  // [entries] sorted
                                  int64_t num_entries, int64_t num_nodes,
                                  uint32_t* begin) {  // [num_nodes + 1] out
  const int64_t v = item_of_thread();
  if (v > num_nodes) return;
  int64_t low = 0, high = num_entries;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (key[middle] < static_cast<uint64_t>(v))
      low = middle + 1;
    else
      high = middle;
  }
  begin[v] = static_cast<uint32_t>(low);
}

// One axis of the filter; limited by memory, the taps' rows come from the cache.
template <typename T>
__global__ void filter_axis_kernel(const T* from,  // [nodes, C]
                                   const T* tap,   // [num_taps]
                                   int64_t num_taps, int64_t pitch, int64_t extent,
                                   int64_t num_nodes, int64_t num_channels,
                                   T* to) {  // [nodes, C] out
  const int64_t v = row_of_group();
  if (v >= num_nodes) return;
  const int64_t position = v / pitch % extent;
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    const T* centre = from + v * num_channels + c;
    T sum = tap[0] * centre[0];
    for (int64_t r = 1; r < num_taps; ++r) {
      const int64_t step = r * pitch * num_channels;
      const T before = r <= position ? centre[-step] : T(0);
      const T behind = r < extent - position ? centre[step] : T(0);
      sum += tap[r] * (before + behind);
    }
    to[v * num_channels + c] = sum;
  }
}

template <typename T>
GridAxis<T> make_axis(DeviceMemory& memory, int64_t extent, double sigma) {
  GridAxis<T> axis{};
  axis.step = node_step(sigma, extent);
  axis.num_nodes = nodes_along(extent, axis.step);
  const double variance = node_variance(sigma, axis.step);
  std::vector<T> taps, derivatives;
  for (int64_t r = 0; r < num_node_taps(variance, axis.step, axis.num_nodes); ++r) {
    taps.push_back(static_cast<T>(node_tap(sigma, variance, axis.step, r)));
    derivatives.push_back(static_cast<T>(node_tap_gradient(sigma, variance, axis.step, r)));
  }
  for (std::size_t r = 0; r < 2 && r < taps.size(); ++r) {
    axis.near[r] = taps[r];
    axis.near_grad[r] = derivatives[r];
  }
  axis.tap = upload(memory, taps);
  axis.tap_grad = upload(memory, derivatives);
  return axis;
}

template <typename T>
void place_points(DeviceMemory& memory, CudaLattice<T>& lattice) {
  GridShapes shapes{};
  for (const GridAxis<T>& axis : lattice.grid_axes) {
    shapes.extent[shapes.num_axes] =
        lattice.layout->grid().extent[static_cast<std::size_t>(shapes.num_axes)];
    shapes.step[shapes.num_axes] = axis.step;
    shapes.num_nodes[shapes.num_axes++] = axis.num_nodes;
  }
  const int64_t num_entries = lattice.num_points() * lattice.corners;
  lattice.weight = Buffer<T>(memory, num_entries);
  lattice.corner = Buffer<int32_t>(memory, num_entries);
  SortBuffers pairs(memory, num_entries);
  launch("place_points_kernel", place_points_kernel<T>, one_each(num_entries), memory.stream(),
         shapes, lattice.num_points(), lattice.corners, lattice.weight.data(),
         lattice.corner.data(), pairs.key.data(), pairs.value.data());
  const auto num_bits = std::bit_width(static_cast<uint64_t>(lattice.vertex_count));
  sort_pairs(memory, static_cast<int>(num_bits), pairs);
  Buffer<uint32_t> begin(memory, lattice.vertex_count + 1);
  launch("find_begin_kernel", find_begin_kernel, one_each(begin.size()), memory.stream(),
         pairs.key.data(), num_entries, lattice.vertex_count, begin.data());
  list_points(memory, pairs.value.data(), begin.data(), lattice);
}

}  // namespace

template <typename T>
std::shared_ptr<const CudaLattice<T>> build_grid_kernel(DeviceMemory& memory,
                                                        std::shared_ptr<const CudaLayout> layout,
                                                        const std::vector<T>& sigma) {
  auto lattice = std::make_shared<CudaLattice<T>>();
  lattice->layout = std::move(layout);
  const auto& extent = lattice->layout->grid().extent;
  lattice->corners = 1;
  lattice->vertex_count = 1;
  for (std::size_t a = 0; a < extent.size(); ++a) {
    lattice->grid_axes.push_back(make_axis<T>(memory, extent[a], double(sigma[a])));
    lattice->corners *= lattice->grid_axes[a].num_corners();
    lattice->vertex_count *= lattice->grid_axes[a].num_nodes;
  }
  lattice->dimension = static_cast<int>(extent.size());
  check_vertex_count(lattice->vertex_count);
  check_corner_count(lattice->num_points(), lattice->corners);
  place_points(memory, *lattice);
  return lattice;
}

template <typename T>
void filter_nodes(DeviceMemory& memory, const CudaLattice<T>& lattice, int64_t num_channels,
                  int derived, Buffer<T>& values, Buffer<T>& spare) {
  int64_t pitch = 1;  // nodes from one to the next along the axis
  for (std::size_t a = lattice.grid_axes.size(); a-- > 0;) {
    const GridAxis<T>& axis = lattice.grid_axes[a];
    const Buffer<T>& tap = static_cast<int>(a) == derived ? axis.tap_grad : axis.tap;
    launch("filter_axis_kernel", filter_axis_kernel<T>,
           group_each(lattice.vertex_count, num_channels), memory.stream(), values.data(),
           tap.data(), tap.size(), pitch, axis.num_nodes, lattice.vertex_count, num_channels,
           spare.data());
    std::swap(values, spare);
    pitch *= axis.num_nodes;
  }
}

#define DF_INSTANTIATE(T)                                                                    \
  template std::shared_ptr<const CudaLattice<T>> build_grid_kernel(                          \
      DeviceMemory&, std::shared_ptr<const CudaLayout>, const std::vector<T>&);              \
  template void filter_nodes(DeviceMemory&, const CudaLattice<T>&, int64_t, int, Buffer<T>&, \
                             Buffer<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
