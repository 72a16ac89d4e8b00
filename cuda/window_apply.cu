// The window kernel as an operator: out = K~ in, its transpose and its diagonal, maths §5.
#include <algorithm>

#include "../cpp/core/window.h"
#include "launch.cuh"
#include "steps.cuh"
#include "window_table.cuh"

namespace densefield::cuda {
namespace {

// For windows of any size. Limited by reading values, which the caches answer for neighbours.
template <typename T, bool transpose>
__global__ void message_kernel(WindowExtent extent,
                               const WindowTap* taps,  // [num_taps]
                               const T* weights,       // [num_taps, cells]
                               const T* rows,          // [cells, C]
                               int64_t num_taps, int64_t num_channels,
                               T* out) {  // [cells, C] out
  const int64_t cells = extent.count(), i = row_of_group();
  if (i >= cells) return;
  const int64_t z = i / (extent.y * extent.x), y = i / extent.x % extent.y, x = i % extent.x;
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    T sum = T(0);
    for (int64_t t = 0; t < num_taps; ++t) {
      const WindowTap tap = taps[t];
      const int64_t nz = z + tap.dz, ny = y + tap.dy, nx = x + tap.dx;
      if (nz < 0 || nz >= extent.z || ny < 0 || ny >= extent.y || nx < 0 || nx >= extent.x)
        continue;
      const int64_t neighbour = i + tap.distance;
      // K^T_ij = K_ji: the neighbour's weight for the opposite tap.
      const T weight =
          transpose ? weights[(num_taps - 1 - t) * cells + neighbour] : weights[t * cells + i];
      sum += weight * rows[neighbour * num_channels + c];
    }
    out[i * num_channels + c] = sum;
  }
}

// The window's rows as a tile of shared memory sees them.
struct TileShape {
  int64_t tiles_x, tiles_y;
  int radius_z, radius_y, radius_x;
  int num_rows;   // of the tile with its halo
  int pitch;      // of a row, in values
  int num_spans;  // rows of the window
};

// Tiles of a plane, with a halo. A thread adds up kPixels neighbours along x and kChannels
// channels of each in registers: a value that is loaded serves up to kPixels pixels, a weight
// kChannels channels. Threads along z take the next channels.
constexpr int kPixels = 4;
constexpr int kChannels = 4;
constexpr int kTileColumns = 8;  // threads, of kPixels each
constexpr int kTileRows = 8;
constexpr int kTileWidth = kTileColumns * kPixels;
constexpr int kMaxChannelThreads = 3;  // 12 channels of a 7 x 7 window are 27 KB

// Fills the tile with the cells around (z, y0, x0), 0 beyond the grid.
template <typename T>
__device__ void load_tile(const WindowExtent& extent, const TileShape& shape,
                          const T* rows,  // [cells, C]
                          int64_t z, int64_t y0, int64_t x0, int64_t first_channel,
                          int64_t num_channels,
                          T* tile) {  // [channels of the block, num_rows, pitch] out
  const int channels = kChannels * static_cast<int>(blockDim.z);
  const int width = kTileWidth + 2 * shape.radius_x;
  const auto thread =
      static_cast<int>((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x);
  const auto num_threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  for (int item = thread; item < channels * width * shape.num_rows; item += num_threads) {
    const int c = item % channels, column = item / channels % width;
    const int row = item / (channels * width);
    const int64_t y = y0 + row - shape.radius_y, x = x0 + column - shape.radius_x;
    const bool is_inside =
        y >= 0 && y < extent.y && x >= 0 && x < extent.x && first_channel + c < num_channels;
    const int64_t cell = (z * extent.y + y) * extent.x + x;
    tile[(c * shape.num_rows + row) * shape.pitch + column] =
        is_inside ? rows[cell * num_channels + first_channel + c] : T(0);
  }
}

// sum += what one row of the window gives to a thread's pixels.
template <typename T>
__device__ void add_span(const WindowRowSpan& span, const TileShape& shape,
                         const T* tile,     // [kChannels, num_rows, pitch] of the thread
                         const T* weights,  // of the first pixel for the span's first tap
                         int64_t num_cells, int num_pixels, T (&sum)[kPixels][kChannels]) {
  const auto taps = static_cast<int>(2 * span.radius + 1);
  const int row = static_cast<int>(threadIdx.y) + shape.radius_y + static_cast<int>(span.dy);
  const int column =
      kPixels * static_cast<int>(threadIdx.x) + shape.radius_x - static_cast<int>(span.radius);
  const T* values = tile + row * shape.pitch + column;
  for (int s = 0; s < taps + kPixels - 1; ++s) {
    T value[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) value[c] = values[c * shape.num_rows * shape.pitch + s];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      const int tap = s - p;
      if (tap < 0 || tap >= taps || p >= num_pixels) continue;
      const T weight = weights[tap * num_cells + p];
#pragma unroll
      for (int c = 0; c < kChannels; ++c) sum[p][c] += weight * value[c];
    }
  }
}

// For windows whose tiles fit shared memory. Limited by reading weights, [taps, cells] once for
// every kChannels * blockDim.z channels.
template <typename T>
__global__ void tile_message_kernel(WindowExtent extent, TileShape shape,
                                    const WindowRowSpan* spans,  // [num_spans] rising dz
                                    const T* weights,            // [num_taps, cells]
                                    const T* rows,               // [cells, C]
                                    int64_t num_channels,
                                    T* out) {  // [cells, C] out
  DF_DYNAMIC_SHARED(T, tile);
  const int64_t tile_number = blockIdx.x;
  const int64_t x0 = tile_number % shape.tiles_x * kTileWidth;
  const int64_t y0 = tile_number / shape.tiles_x % shape.tiles_y * kTileRows;
  const int64_t z = tile_number / (shape.tiles_x * shape.tiles_y);
  const int64_t first_channel = static_cast<int64_t>(blockIdx.y) * kChannels * blockDim.z;
  const int64_t own_channel = first_channel + threadIdx.z * kChannels;
  const int64_t x = x0 + kPixels * threadIdx.x, y = y0 + threadIdx.y;
  const int64_t cell = (z * extent.y + y) * extent.x + x;
  const int64_t to_end = y < extent.y ? extent.x - x : 0;
  const int num_pixels = static_cast<int>(to_end < 0 ? 0 : to_end < kPixels ? to_end : kPixels);
  const T* own_tile =
      tile + static_cast<int>(threadIdx.z) * kChannels * shape.num_rows * shape.pitch;
  T sum[kPixels][kChannels] = {};
  int next = 0;
  for (int dz = -shape.radius_z; dz <= shape.radius_z; ++dz) {
    const bool has_plane = z + dz >= 0 && z + dz < extent.z;
    if (has_plane)
      load_tile(extent, shape, rows, z + dz, y0, x0, first_channel, num_channels, tile);
    __syncthreads();
    for (; next < shape.num_spans && spans[next].dz == dz; ++next)
      if (has_plane)
        add_span(spans[next], shape, own_tile,
                 weights + spans[next].first_tap * extent.count() + cell, extent.count(),
                 num_pixels, sum);
    __syncthreads();
  }
#pragma unroll
  for (int p = 0; p < kPixels; ++p)
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
      if (p < num_pixels && own_channel + c < num_channels)
        out[(cell + p) * num_channels + own_channel + c] = sum[p][c];
}

// The weight of the middle tap, or, between cells of several nodes, of the cells around.
template <typename T>
__global__ void diagonal_kernel(CellGrid grid,
                                const WindowTap* taps,  // [num_taps]
                                const T* weights,       // [num_taps, cells]
                                const T* pre,           // [N] or nullptr
                                const T* post,          // [N] or nullptr
                                int64_t num_taps, int64_t num_nodes, int64_t num_cells,
                                T* out) {  // [N] out
  const int64_t i = item_of_thread();
  if (i >= num_nodes) return;
  if (!grid.has_cells()) {
    out[i] = weights[num_taps / 2 * num_cells + i];
    return;
  }
  const int64_t node[3] = {i / (grid.fine[1] * grid.fine[2]), i / grid.fine[2] % grid.fine[1],
                           i % grid.fine[2]};
  const auto weight_between = [&](const int64_t* to, const int64_t* from) {
    const int64_t cell = (to[0] * grid.coarse[1] + to[1]) * grid.coarse[2] + to[2];
    for (int64_t t = 0; t < num_taps; ++t)
      if (taps[t].dz == from[0] - to[0] && taps[t].dy == from[1] - to[1] &&
          taps[t].dx == from[2] - to[2])
        return weights[t * num_cells + cell];
    return T(0);
  };
  T value = cell_kernel_diagonal<T>(node, grid.fine.data(), grid.coarse.data(), grid.phase.data(),
                                    grid.cell_size.data(), weight_between);
  if (pre != nullptr) value *= pre[i] * post[i];
  out[i] = value;
}

}  // namespace

namespace {

// Bytes of shared memory that the tiles need.
template <typename T>
int64_t shape_tiles(const CudaWindowTable<T>& table, int channel_threads, TileShape& shape) {
  const WindowGeometry& geometry = table.geometry;
  int64_t reach[3] = {0, 0, geometry.radius};
  for (const WindowRowSpan& span : geometry.spans) {
    reach[0] = std::max(reach[0], span.dz);
    reach[1] = std::max(reach[1], span.dy);
  }
  constexpr int64_t kWidest = 1024;  // beyond it nothing fits, and 32 bits need not hold it
  if (std::max({reach[0], reach[1], reach[2]}) > kWidest) return INT64_MAX;
  shape.tiles_x = (geometry.extent[2] + kTileWidth - 1) / kTileWidth;
  shape.tiles_y = (geometry.extent[1] + kTileRows - 1) / kTileRows;
  shape.radius_z = static_cast<int>(reach[0]);
  shape.radius_y = static_cast<int>(reach[1]);
  shape.radius_x = static_cast<int>(reach[2]);
  shape.num_rows = kTileRows + 2 * shape.radius_y;
  // One more than a multiple of 4: the four rows of a warp lie in different banks.
  shape.pitch = (kTileWidth + 2 * shape.radius_x) / 4 * 4 + 5;
  shape.num_spans = static_cast<int>(geometry.spans.size());
  return int64_t{kChannels} * channel_threads * shape.num_rows * shape.pitch *
         static_cast<int64_t>(sizeof(T));
}

template <typename T>
bool pass_by_tiles(DeviceMemory& memory, const CudaWindowTable<T>& table, const T* rows,
                   int64_t num_channels, T* out) {
  constexpr int64_t kShared = 48 << 10;  // bytes that every device gives without asking
  const int64_t wanted = (num_channels + kChannels - 1) / kChannels;
  auto channel_threads = static_cast<int>(std::min<int64_t>(wanted, kMaxChannelThreads));
  TileShape shape{};
  while (channel_threads > 1 && shape_tiles(table, channel_threads, shape) > kShared)
    --channel_threads;
  const int64_t num_bytes = shape_tiles(table, channel_threads, shape);
  if (num_bytes > kShared) return false;
  const int64_t per_block = int64_t{kChannels} * channel_threads;
  const int64_t tiles = shape.tiles_x * shape.tiles_y * table.geometry.extent[0];
  const LaunchShape launch_shape = {
      dim3(static_cast<unsigned>(tiles),
           static_cast<unsigned>((num_channels + per_block - 1) / per_block)),
      dim3(kTileColumns, kTileRows, static_cast<unsigned>(channel_threads)),
      static_cast<std::size_t>(num_bytes)};
  launch("tile_message_kernel", tile_message_kernel<T>, launch_shape, memory.stream(),
         extent_of(table.geometry.extent), shape, table.spans.data(), table.weights.data(), rows,
         num_channels, out);
  return true;
}

}  // namespace

template <typename T>
void pass_messages(DeviceMemory& memory, const CudaWindowTable<T>& table, const T* rows,
                   int64_t num_channels, bool transpose, T* out) {
  if (num_channels == 0) return;
  const bool is_same = !transpose || table.is_symmetric;
  if (is_same && pass_by_tiles(memory, table, rows, num_channels, out)) return;
  launch("message_kernel", is_same ? message_kernel<T, false> : message_kernel<T, true>,
         group_each(table.num_cells(), num_channels), memory.stream(),
         extent_of(table.geometry.extent), table.taps.data(), table.weights.data(), rows,
         table.num_taps(), num_channels, out);
}

template <typename T>
CellRows<T> make_cell_rows(DeviceMemory& memory, const CudaWindowTable<T>& table,
                           int64_t num_channels) {
  if (!table.cells.has_cells()) return {};
  const int64_t size = table.num_cells() * num_channels;
  return {Buffer<T>(memory, size), Buffer<T>(memory, size)};
}

template <typename T>
void apply_window(DeviceMemory& memory, const CudaWindowTable<T>& table, const T* rows,
                  int64_t num_channels, bool transpose, CellRows<T>& cells, T* out) {
  if (!table.cells.has_cells())
    return pass_messages(memory, table, rows, num_channels, transpose, out);
  // K~ = diag(post) U K D diag(pre): D means over cells, U interpolates between them.
  if (num_channels == 0) return;
  T *const values = cells.values.data(), *const messages = cells.messages.data();
  if (transpose)
    upsample_transpose(memory, table.cells, rows, table.post.data(), num_channels, values);
  else
    pool(memory, table.cells, rows, table.pre.data(), num_channels, values);
  pass_messages<T>(memory, table, values, num_channels, transpose, messages);
  if (transpose)
    pool_transpose<T>(memory, table.cells, messages, table.pre.data(), num_channels, out);
  else
    upsample<T>(memory, table.cells, messages, table.post.data(), num_channels, out);
}

template <typename T>
void window_diagonal(DeviceMemory& memory, const CudaWindowTable<T>& table, bool has_scales,
                     T* out) {
  launch("diagonal_kernel", diagonal_kernel<T>, one_each(table.num_nodes()), memory.stream(),
         table.cells, table.taps.data(), table.weights.data(),
         has_scales ? table.pre.data() : nullptr, has_scales ? table.post.data() : nullptr,
         table.num_taps(), table.num_nodes(), table.num_cells(), out);
}

#define DF_INSTANTIATE(T)                                                                        \
  template void pass_messages(DeviceMemory&, const CudaWindowTable<T>&, const T*, int64_t, bool, \
                              T*);                                                               \
  template CellRows<T> make_cell_rows(DeviceMemory&, const CudaWindowTable<T>&, int64_t);        \
  template void apply_window(DeviceMemory&, const CudaWindowTable<T>&, const T*, int64_t, bool,  \
                             CellRows<T>&, T*);                                                  \
  template void window_diagonal(DeviceMemory&, const CudaWindowTable<T>&, bool, T*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
