// Between nodes and cells: the downsampling of [TC18], maths §5. Limited by memory: every kernel
// gathers, and neighbours' reads meet in the cache.
#include "../cpp/core/window.h"
#include "launch.cuh"
#include "window_table.cuh"

namespace densefield::cuda {
namespace {

// The place of an item of a (z, y, x) grid.
struct Coordinates {
  int64_t at[3];
};
__device__ inline Coordinates place_of(int64_t item, const Place& extent) {
  return {{item / (extent[1] * extent[2]), item / extent[2] % extent[1], item % extent[2]}};
}
__device__ inline int64_t item_at(int64_t z, int64_t y, int64_t x, const Place& extent) {
  return (z * extent[1] + y) * extent[2] + x;
}

template <typename T>
__global__ void pool_kernel(CellGrid grid,
                            const T* nodes,  // [N, C]
                            const T* scale,  // [N] or nullptr
                            int64_t num_cells, int64_t num_channels,
                            T* cells) {  // [cells, C] out
  const int64_t item = row_of_group();
  if (item >= num_cells) return;
  const Coordinates place = place_of(item, grid.coarse);
  CellNodes own[3];
  T share = T(1);
  for (std::size_t a = 0; a < 3; ++a) {
    own[a] = nodes_of_cell(place.at[a], grid.phase[a], grid.cell_size[a], grid.fine[a]);
    share /= T(own[a].count());
  }
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    T sum = T(0);
    for (int64_t z = own[0].first; z < own[0].last; ++z)
      for (int64_t y = own[1].first; y < own[1].last; ++y)
        for (int64_t x = own[2].first; x < own[2].last; ++x) {
          const int64_t i = item_at(z, y, x, grid.fine);
          const T value = nodes[i * num_channels + c];
          sum += scale != nullptr ? scale[i] * value : value;
        }
    cells[item * num_channels + c] = share * sum;
  }
}

template <typename T>
__global__ void pool_transpose_kernel(CellGrid grid,
                                      const T* cells,  // [cells, C]
                                      const T* scale,  // [N] or nullptr
                                      int64_t num_nodes, int64_t num_channels,
                                      T* nodes) {  // [N, C] out
  const int64_t i = row_of_group();
  if (i >= num_nodes) return;
  const Coordinates place = place_of(i, grid.fine);
  int64_t cell[3];
  T share = scale != nullptr ? scale[i] : T(1);
  for (std::size_t a = 0; a < 3; ++a) {
    cell[a] = cell_of(place.at[a], grid.phase[a], grid.cell_size[a]);
    share /= T(nodes_of_cell(cell[a], grid.phase[a], grid.cell_size[a], grid.fine[a]).count());
  }
  const int64_t item = item_at(cell[0], cell[1], cell[2], grid.coarse);
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x)
    nodes[i * num_channels + c] = share * cells[item * num_channels + c];
}

template <typename T>
__global__ void upsample_kernel(CellGrid grid,
                                const T* cells,  // [cells, C]
                                const T* scale,  // [N] or nullptr
                                int64_t num_nodes, int64_t num_channels,
                                T* nodes) {  // [N, C] out
  const int64_t i = row_of_group();
  if (i >= num_nodes) return;
  const Coordinates place = place_of(i, grid.fine);
  CellPair<T> pair[3];
  for (std::size_t a = 0; a < 3; ++a)
    pair[a] = cells_around<T>(place.at[a], grid.phase[a], grid.cell_size[a], grid.coarse[a]);
  const T factor = scale != nullptr ? scale[i] : T(1);
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    T sum = T(0);
    for (int corner = 0; corner < 8; ++corner) {
      T share = T(1);
      int64_t cell[3];
      for (std::size_t a = 0; a < 3; ++a) {
        const bool is_high = (corner >> a & 1) != 0;
        cell[a] = is_high ? pair[a].high : pair[a].low;
        share *= is_high ? pair[a].share : T(1) - pair[a].share;
      }
      sum += share * cells[item_at(cell[0], cell[1], cell[2], grid.coarse) * num_channels + c];
    }
    nodes[i * num_channels + c] = factor * sum;
  }
}

template <typename T>
__global__ void upsample_transpose_kernel(CellGrid grid,
                                          const T* nodes,  // [N, C]
                                          const T* scale,  // [N] or nullptr
                                          int64_t num_cells, int64_t num_channels,
                                          T* cells) {  // [cells, C] out
  const int64_t item = row_of_group();
  if (item >= num_cells) return;
  const Coordinates place = place_of(item, grid.coarse);
  // Nodes of the cell and of its neighbours are the ones that may take from it.
  int64_t first[3], last[3];
  for (std::size_t a = 0; a < 3; ++a) {
    const int64_t begin = (place.at[a] - 1) * grid.cell_size[a] - grid.phase[a];
    const int64_t end = begin + 3 * grid.cell_size[a];
    first[a] = begin < 0 ? 0 : begin;
    last[a] = end > grid.fine[a] ? grid.fine[a] : end;
  }
  const auto share_along = [&](std::size_t a, int64_t node) {
    return share_of_cell(cells_around<T>(node, grid.phase[a], grid.cell_size[a], grid.coarse[a]),
                         place.at[a]);
  };
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    T sum = T(0);
    for (int64_t z = first[0]; z < last[0]; ++z)
      for (int64_t y = first[1]; y < last[1]; ++y) {
        const T share = share_along(0, z) * share_along(1, y);
        if (share == T(0)) continue;
        for (int64_t x = first[2]; x < last[2]; ++x) {
          const int64_t i = item_at(z, y, x, grid.fine);
          const T factor = scale != nullptr ? share * scale[i] : share;
          sum += factor * share_along(2, x) * nodes[i * num_channels + c];
        }
      }
    cells[item * num_channels + c] = sum;
  }
}

int64_t count_of(const Place& extent) { return extent[0] * extent[1] * extent[2]; }

}  // namespace

template <typename T>
void pool(DeviceMemory& memory, const CellGrid& grid, const T* nodes, const T* scale,
          int64_t num_channels, T* cells) {
  const int64_t count = count_of(grid.coarse);
  launch("pool_kernel", pool_kernel<T>, group_each(count, num_channels), memory.stream(), grid,
         nodes, scale, count, num_channels, cells);
}

template <typename T>
void pool_transpose(DeviceMemory& memory, const CellGrid& grid, const T* cells, const T* scale,
                    int64_t num_channels, T* nodes) {
  const int64_t count = count_of(grid.fine);
  launch("pool_transpose_kernel", pool_transpose_kernel<T>, group_each(count, num_channels),
         memory.stream(), grid, cells, scale, count, num_channels, nodes);
}

template <typename T>
void upsample(DeviceMemory& memory, const CellGrid& grid, const T* cells, const T* scale,
              int64_t num_channels, T* nodes) {
  const int64_t count = count_of(grid.fine);
  launch("upsample_kernel", upsample_kernel<T>, group_each(count, num_channels), memory.stream(),
         grid, cells, scale, count, num_channels, nodes);
}

template <typename T>
void upsample_transpose(DeviceMemory& memory, const CellGrid& grid, const T* nodes, const T* scale,
                        int64_t num_channels, T* cells) {
  const int64_t count = count_of(grid.coarse);
  launch("upsample_transpose_kernel", upsample_transpose_kernel<T>, group_each(count, num_channels),
         memory.stream(), grid, nodes, scale, count, num_channels, cells);
}

#define DF_INSTANTIATE(T)                                                                        \
  template void pool(DeviceMemory&, const CellGrid&, const T*, const T*, int64_t, T*);           \
  template void pool_transpose(DeviceMemory&, const CellGrid&, const T*, const T*, int64_t, T*); \
  template void upsample(DeviceMemory&, const CellGrid&, const T*, const T*, int64_t, T*);       \
  template void upsample_transpose(DeviceMemory&, const CellGrid&, const T*, const T*, int64_t, T*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
