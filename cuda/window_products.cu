// Products of the gradient at a pixel with the values of its neighbours, summed over channels,
// maths §5 "Gradients".
#include <algorithm>

#include "launch.cuh"
#include "window_gradient.cuh"

namespace densefield::cuda {
namespace {

// A block takes the products of a tile of pixels with a group of taps; threads along x have
// neighbouring pixels, so that weights are read and written in whole lines; threads along y have
// a column of taps each. A thread adds up kPixels pixels of a column with Rows taps of a column
// in registers: a value that is loaded serves up to kPixels products. Blocks are so small that
// they fit with any number of registers.
constexpr int kPixels = 4;  // the height of a tile
constexpr int kMostColumns = 7;
// Channels in shared memory at a time: 32 bytes of a row, the unit that memory is read by.
template <typename T>
constexpr int kChunk = 32 / static_cast<int>(sizeof(T));

// Where values lie in shared memory: [channels, rows, pitch].
struct TileShape {
  int rows;
  int columns;
  int pitch;
  int channel_stride;
};
// Four more than whole rows: the channels of a pixel lie in different banks.
constexpr TileShape gradient_tile() { return {kPixels, kWarp, kWarp, kPixels * kWarp + 4}; }
constexpr TileShape value_tile(int rows) {
  const int pitch = kWarp + kMostColumns - 1, height = kPixels + rows - 1;
  return {height, pitch, pitch, height * pitch};
}

// Fills a tile with the cells from (z, y0, x0) on, 0 beyond the grid.
template <typename T>
__device__ void load_tile(const WindowExtent& extent, TileShape shape,
                          const T* rows,  // [cells, C]
                          int64_t z, int64_t y0, int64_t x0, int64_t first_channel, int channels,
                          int64_t num_channels,
                          T* tile) {  // [channels, rows, pitch] out
  const auto thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  const auto num_threads = static_cast<int>(blockDim.x * blockDim.y);
  const int64_t corner = ((z * extent.y + y0) * extent.x + x0) * num_channels + first_channel;
  for (int item = thread; item < kChunk<T> * shape.columns * shape.rows; item += num_threads) {
    const int c = item % kChunk<T>, column = item / kChunk<T> % shape.columns;
    const int row = item / (kChunk<T> * shape.columns);
    if (c >= channels) continue;
    const int64_t y = y0 + row, x = x0 + column;
    const bool is_inside = y >= 0 && y < extent.y && x >= 0 && x < extent.x;
    tile[c * shape.channel_stride + row * shape.pitch + column] =
        is_inside ? rows[corner + (row * extent.x + column) * num_channels + c] : T(0);
  }
}

// sum += the products of one channel.
template <typename T, int Rows>
__device__ void add_channel(const T* gradients,  // [kPixels, kWarp]
                            const T* values,     // [kPixels + Rows - 1, pitch]
                            T (&sum)[kPixels][Rows]) {
  constexpr int kOwnPitch = gradient_tile().pitch, kPitch = value_tile(Rows).pitch;
  const T* own = gradients + threadIdx.x;
  const T* there = values + threadIdx.x + threadIdx.y;
  T gradient[kPixels];
#pragma unroll
  for (int p = 0; p < kPixels; ++p) gradient[p] = own[p * kOwnPitch];
#pragma unroll
  for (int s = 0; s < kPixels + Rows - 1; ++s) {
    const T value = there[s * kPitch];
#pragma unroll
    for (int p = 0; p < kPixels; ++p)
      if (s - p >= 0 && s - p < Rows) sum[p][s - p] += gradient[p] * value;
  }
}

// weights += factor * sum, for the thread's pixels from (z, y, x) on and the taps in the window.
template <typename T, int Rows>
__device__ void add_to_weights(const WindowExtent& extent, const TapGroup& group,
                               const WindowRowSpan* spans, int64_t z, int64_t y, int64_t x,
                               T factor, const T (&sum)[kPixels][Rows], T* weights) {
  if (x >= extent.x) return;
  const int64_t dx = group.dx + static_cast<int64_t>(threadIdx.y);
#pragma unroll
  for (int t = 0; t < Rows; ++t) {
    if (t >= group.num_spans) continue;
    const WindowRowSpan span = spans[group.first_span + t];
    if (dx < -span.radius || dx > span.radius) continue;
    const int64_t tap = span.first_tap + span.radius + dx;
    T* to = weights + tap * extent.count() + (z * extent.y + y) * extent.x + x;
#pragma unroll
    for (int p = 0; p < kPixels; ++p)
      if (y + p < extent.y) to[p * extent.x] += factor * sum[p][t];
  }
}

// Limited by reading and writing the weights once.
template <typename T, int Rows>
__global__ void add_products_kernel(WindowExtent extent, int64_t tiles_x, int64_t tiles_y,
                                    const TapGroup* groups,      // [num_groups]
                                    const WindowRowSpan* spans,  // of the window
                                    const T* gradients,          // [cells, C]
                                    const T* values,             // [cells, C]
                                    int64_t num_groups, int64_t num_channels, T factor,
                                    T* weights) {  // [num_taps, cells] added to
  constexpr TileShape kOwn = gradient_tile(), kThere = value_tile(Rows);
  DF_SHARED(T, own, kChunk<T> * kOwn.channel_stride);
  DF_SHARED(T, there, kChunk<T> * kThere.channel_stride);
  const int64_t x0 = blockIdx.x % tiles_x * kWarp, y0 = blockIdx.x / tiles_x % tiles_y * kPixels;
  const int64_t z = blockIdx.x / (tiles_x * tiles_y);
  for (int64_t g = blockIdx.y; g < num_groups; g += gridDim.y) {
    const TapGroup group = groups[g];
    if (z + group.dz < 0 || z + group.dz >= extent.z) continue;
    T sum[kPixels][Rows] = {};
    for (int64_t first = 0; first < num_channels; first += kChunk<T>) {
      const int64_t left = num_channels - first;
      const int channels = left < kChunk<T> ? static_cast<int>(left) : kChunk<T>;
      load_tile(extent, kOwn, gradients, z, y0, x0, first, channels, num_channels, own);
      load_tile(extent, kThere, values, z + group.dz, y0 + group.dy, x0 + group.dx, first, channels,
                num_channels, there);
      __syncthreads();
      for (int c = 0; c < channels; ++c)
        add_channel<T, Rows>(own + c * kOwn.channel_stride, there + c * kThere.channel_stride, sum);
      __syncthreads();
    }
    add_to_weights<T, Rows>(extent, group, spans, z, y0, x0 + threadIdx.x, factor, sum, weights);
  }
}

template <typename T, int Rows>
void launch_products(DeviceMemory& memory, const CudaWindowTable<T>& table, const T* gradients,
                     const T* values, int64_t num_channels, T factor, CudaWindowGradient<T>& out) {
  const WindowExtent extent = extent_of(table.geometry.extent);
  const int64_t tiles_x = (extent.x + kWarp - 1) / kWarp;
  const int64_t tiles_y = (extent.y + kPixels - 1) / kPixels;
  constexpr int64_t kMostRows = 65535;  // of a grid of blocks
  const LaunchShape shape = {dim3(static_cast<unsigned>(tiles_x * tiles_y * extent.z),
                                  static_cast<unsigned>(std::min(kMostRows, out.groups.size()))),
                             dim3(kWarp, static_cast<unsigned>(out.shape.columns))};
  launch("add_products_kernel", add_products_kernel<T, Rows>, shape, memory.stream(), extent,
         tiles_x, tiles_y, out.groups.data(), table.spans.data(), gradients, values,
         out.groups.size(), num_channels, factor, out.weights.data());
}

}  // namespace

TapGroups::TapGroups(const WindowGeometry& geometry) {
  const std::vector<WindowRowSpan>& spans = geometry.spans;
  const auto parts = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
  int64_t highest = 1;
  for (const WindowRowSpan& span : spans) highest = std::max(highest, 2 * span.dy + 1);
  // What leaves the fewest rows without taps.
  rows = highest <= 3 ? 3 : parts(highest, 5) * 5 < parts(highest, 7) * 7 ? 5 : 7;
  const int64_t widest = 2 * geometry.radius + 1;
  columns = static_cast<int>(parts(widest, parts(widest, kMostColumns)));
  for (std::size_t first = 0, last = 0; first < spans.size(); first = last) {
    int64_t radius = 0;
    for (; last < spans.size() && spans[last].dz == spans[first].dz &&
           spans[last].dy < spans[first].dy + rows;
         ++last)
      radius = std::max(radius, spans[last].radius);
    for (int64_t dx = -radius; dx <= radius; dx += columns)
      list.push_back({static_cast<int32_t>(spans[first].dz), static_cast<int32_t>(spans[first].dy),
                      static_cast<int32_t>(dx), static_cast<int32_t>(first),
                      static_cast<int32_t>(last - first)});
  }
}

template <typename T>
void add_products(DeviceMemory& memory, const CudaWindowTable<T>& table, const T* gradients,
                  const T* values, int64_t num_channels, T factor, CudaWindowGradient<T>& out) {
  const auto run = out.shape.rows == 3   ? launch_products<T, 3>
                   : out.shape.rows == 5 ? launch_products<T, 5>
                                         : launch_products<T, 7>;
  run(memory, table, gradients, values, num_channels, factor, out);
}

#define DF_INSTANTIATE(T)                                                                  \
  template void add_products(DeviceMemory&, const CudaWindowTable<T>&, const T*, const T*, \
                             int64_t, T, CudaWindowGradient<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
