#include "scan.cuh"

namespace densefield::cuda {
namespace {

constexpr int kValuesPerThread = 8;  // neighbouring values
constexpr int kScanTile = kBlock * kValuesPerThread;

__global__ void scan_tiles_kernel(int64_t count,
                                  uint32_t* values,    // [count] in, out: sums within a tile
                                  uint32_t* totals) {  // [tiles] out
  DF_SHARED(uint32_t, partial, kBlock / kWarp);
  const int64_t first = item_of_thread() * kValuesPerThread;
  uint32_t own[kValuesPerThread], sum = 0;
#pragma unroll
  for (int k = 0; k < kValuesPerThread; ++k) {
    own[k] = first + k < count ? values[first + k] : 0;
    sum += own[k];
  }
  uint32_t before = sum_of_threads_before(sum, partial);
  if (threadIdx.x == kBlock - 1) totals[blockIdx.x] = before + sum;
#pragma unroll
  for (int k = 0; k < kValuesPerThread; ++k) {
    if (first + k < count) values[first + k] = before;
    before += own[k];
  }
}

__global__ void add_offsets_kernel(int64_t count,
                                   const uint32_t* offset,  // [tiles]
                                   uint32_t* values) {      // [count] in, out
  const int64_t i = item_of_thread();
  if (i < count) values[i] += offset[i / kScanTile];
}

}  // namespace

void exclusive_scan(DeviceMemory& memory, int64_t count, uint32_t* values) {
  if (count == 0) return;
  const int64_t tiles = (count + kScanTile - 1) / kScanTile;
  Buffer<uint32_t> totals(memory, tiles);
  launch("scan_tiles_kernel", scan_tiles_kernel, one_each(tiles * kBlock), memory.stream(), count,
         values, totals.data());
  if (tiles == 1) return;
  exclusive_scan(memory, tiles, totals.data());
  launch("add_offsets_kernel", add_offsets_kernel, one_each(count), memory.stream(), count,
         totals.data(), values);
}

}  // namespace densefield::cuda
