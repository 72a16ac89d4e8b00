#include <limits>
#include <string>

#include "launch.cuh"
#include "layout.cuh"

namespace densefield::cuda {
namespace {

// Values go through a square tile of shared memory, so that both sides are read and written
// along their own rows. One more column: the columns of a tile lie in different banks.
constexpr int kTile = 32;
constexpr int kTileLines = kBlock / kTile;
constexpr int kTilePitch = kTile + 1;

template <typename T>
__global__ void load_rows_kernel(const T* from,  // (channel, node) at their strides
                                 int64_t channel_stride, int64_t node_stride, int64_t num_nodes,
                                 int64_t num_channels,
                                 T* rows) {  // [num_nodes, num_channels] out
  DF_SHARED(T, tile, kTile * kTilePitch);
  const int64_t first_node = static_cast<int64_t>(blockIdx.x) * kTile;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  for (int64_t first = 0; first < num_channels; first += kTile) {
    for (int k = y; k < kTile; k += kTileLines) {
      const int64_t c = first + k, i = first_node + x;
      if (c < num_channels && i < num_nodes)
        tile[k * kTilePitch + x] = from[c * channel_stride + i * node_stride];
    }
    __syncthreads();
    for (int k = y; k < kTile; k += kTileLines) {
      const int64_t c = first + x, i = first_node + k;
      if (c < num_channels && i < num_nodes) rows[i * num_channels + c] = tile[x * kTilePitch + k];
    }
    __syncthreads();
  }
}

template <typename T>
__global__ void store_rows_kernel(const T* rows,  // [num_nodes, num_channels]
                                  int64_t num_nodes, int64_t num_channels, int64_t channel_stride,
                                  int64_t node_stride,
                                  T* to) {  // (channel, node) at their strides, out
  DF_SHARED(T, tile, kTile * kTilePitch);
  const int64_t first_node = static_cast<int64_t>(blockIdx.x) * kTile;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  for (int64_t first = 0; first < num_channels; first += kTile) {
    for (int k = y; k < kTile; k += kTileLines) {
      const int64_t c = first + x, i = first_node + k;
      if (c < num_channels && i < num_nodes) tile[k * kTilePitch + x] = rows[i * num_channels + c];
    }
    __syncthreads();
    for (int k = y; k < kTile; k += kTileLines) {
      const int64_t c = first + k, i = first_node + x;
      if (c < num_channels && i < num_nodes)
        to[c * channel_stride + i * node_stride] = tile[x * kTilePitch + k];
    }
    __syncthreads();
  }
}

LaunchShape tiles_of(int64_t num_nodes) {
  return {dim3(static_cast<unsigned>((num_nodes + kTile - 1) / kTile)), dim3(kTile, kTileLines)};
}

}  // namespace

std::shared_ptr<const CudaLayout> make_layout(const DeviceMemory& memory, const Grid& grid,
                                              int max_dim) {
  const double per_node = double(sizeof(float) + sizeof(int32_t)) * (max_dim + 1);
  double needed = per_node;
  for (int64_t extent : grid.extent) needed *= double(extent);
  std::size_t num_free = 0, total = 0;
  check(cudaSetDevice(memory.queue().device), "choosing the device");
  check(cudaMemGetInfo(&num_free, &total), "asking for the size of memory");
  if (needed > double(total))
    throw Error(Error::Kind::memory, "not enough memory on the device: about " +
                                         std::to_string(static_cast<int64_t>(needed / 1e9)) +
                                         "e9 bytes are needed, it has " + std::to_string(total) +
                                         " bytes; split the input or use float32");
  return std::make_shared<CudaLayout>(grid);
}

template <typename T>
void load_rows(DeviceMemory& memory, NodeView<const T> from, T* rows) {
  if (from.num_nodes * from.num_channels == 0) return;
  const DeviceView<T> on_device = bring_to_device(memory, from);
  const NodeView<const T>& view = on_device.view;
  launch("load_rows_kernel", load_rows_kernel<T>, tiles_of(view.num_nodes), memory.stream(),
         view.data, view.channel_stride, view.node_stride, view.num_nodes, view.num_channels, rows);
}

template <typename T>
void store_rows(DeviceMemory& memory, const T* rows, NodeView<T> to) {
  if (to.num_nodes * to.num_channels == 0) return;
  write_on_device(memory, to, [&](const NodeView<T>& view) {
    launch("store_rows_kernel", store_rows_kernel<T>, tiles_of(view.num_nodes), memory.stream(),
           rows, view.num_nodes, view.num_channels, view.channel_stride, view.node_stride,
           view.data);
  });
}

#define DF_INSTANTIATE(T)                                        \
  template void load_rows(DeviceMemory&, NodeView<const T>, T*); \
  template void store_rows(DeviceMemory&, const T*, NodeView<T>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
