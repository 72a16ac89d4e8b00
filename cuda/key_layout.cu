#include <algorithm>

#include "key_layout.cuh"
#include "launch.cuh"

namespace densefield::cuda {
namespace {

constexpr int kMaxRangeBlocks = 256;  // of one channel; each leaves one range to the host

template <typename T>
struct BlockRange {
  T low;
  T high;
  T zero_if_finite;
};

// Smallest and largest value of one channel: no order changes them. One row of blocks each.
template <typename T>
__global__ void range_kernel(const T* values,  // (channel, node) at their strides
                             int64_t channel_stride, int64_t node_stride, int64_t num_nodes,
                             BlockRange<T>* range) {  // [channels, blocks] out
  DF_SHARED(T, low, kBlock);
  DF_SHARED(T, high, kBlock);
  DF_SHARED(T, nothing, kBlock);
  const T* channel = values + blockIdx.y * channel_stride;
  BlockRange<T> own{channel[0], channel[0], T(0)};
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = item_of_thread(); i < num_nodes; i += step) {
    const T x = channel[i * node_stride];
    own.low = smaller(x, own.low);
    own.high = larger(own.high, x);
    own.zero_if_finite += x * T(0);
  }
  const unsigned t = threadIdx.x;
  low[t] = own.low;
  high[t] = own.high;
  nothing[t] = own.zero_if_finite;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t >= half) continue;
    low[t] = smaller(low[t + half], low[t]);
    high[t] = larger(high[t], high[t + half]);
    nothing[t] += nothing[t + half];
  }
  if (t == 0) range[blockIdx.y * gridDim.x + blockIdx.x] = {low[0], high[0], nothing[0]};
}

template <typename T>
std::vector<ValueRange> channel_ranges(DeviceMemory& memory, const NodeView<const T>& values) {
  std::vector<ValueRange> ranges(static_cast<std::size_t>(values.num_channels));
  if (ranges.empty()) return ranges;
  const int64_t blocks =
      std::min<int64_t>(kMaxRangeBlocks, (values.num_nodes + kBlock - 1) / kBlock);
  std::vector<BlockRange<T>> part(ranges.size() * static_cast<std::size_t>(blocks));
  Buffer<BlockRange<T>> on_device(memory, static_cast<int64_t>(part.size()));
  launch("range_kernel", range_kernel<T>,
         {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(values.num_channels)),
          dim3(kBlock)},
         memory.stream(), values.data, values.channel_stride, values.node_stride, values.num_nodes,
         on_device.data());
  download(memory, on_device.data(), on_device.size(), part.data());
  for (std::size_t i = 0; i < part.size(); ++i) {
    ValueRange& range = ranges[i / static_cast<std::size_t>(blocks)];
    range.add(part[i].low);
    range.add(part[i].high);
    range.is_finite &= part[i].zero_if_finite == T(0);
  }
  return ranges;
}

}  // namespace

template <typename T>
KeyLayout make_key_layout(DeviceMemory& memory, const CudaLayout& layout,
                          const Features<T>& features) {
  check_dim(features);
  return densefield::make_key_layout(layout.grid(), features,
                                     channel_ranges(memory, features.values));
}

template KeyLayout make_key_layout(DeviceMemory&, const CudaLayout&, const Features<float>&);
template KeyLayout make_key_layout(DeviceMemory&, const CudaLayout&, const Features<double>&);

}  // namespace densefield::cuda
