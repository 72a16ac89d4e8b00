// Between the caller's layout and padded rows in the order of the blocks.
#include <algorithm>

#include "densefield/threads.h"
#include "prefetch.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {
namespace {

template <typename T>
void store_run(const T* rows, int64_t stride, const Run& run, NodeView<T> to,
               const int32_t* order) {
  if (to.node_stride == 1) {
    simd::kernels<T>().store_rows(rows, stride, run.length, to.num_channels, &to.at(0, run.node),
                                  to.channel_stride, order);
    return;
  }
  for (int64_t i = 0; i < run.length; ++i) {
    const T* row = rows + i * stride;
    T* value = &to.at(0, run.node + i);
    for (int64_t c = 0; c < to.num_channels; ++c)
      value[simd::channel_at(order, c) * to.channel_stride] = row[c];
  }
}

}  // namespace

template <typename T>
int64_t padded_stride(int64_t num_channels) {
  constexpr int64_t kLanes = simd::kRowBytes / static_cast<int64_t>(sizeof(T));
  return (num_channels + kLanes - 1) / kLanes * kLanes;
}

template <typename T>
void load_run(NodeView<const T> from, const Run& run, T padding, T* rows, int64_t stride,
              const int32_t* order) {
  if (from.node_stride == 1) {
    simd::kernels<T>().load_rows(&from.at(0, run.node), from.channel_stride, run.length,
                                 from.num_channels, padding, rows, stride, order);
    return;
  }
  for (int64_t i = 0; i < run.length; ++i) {
    T* row = rows + i * stride;
    const T* value = &from.at(0, run.node + i);
    for (int64_t c = 0; c < from.num_channels; ++c)
      row[c] = value[simd::channel_at(order, c) * from.channel_stride];
    std::fill(row + from.num_channels, row + stride, padding);
  }
}

template <typename T>
void load_nodes(const CpuLayout& layout, NodeView<const T> from, T padding, T* rows,
                const int32_t* order) {
  const int64_t stride = padded_stride<T>(from.num_channels);
  parallel_for(layout.num_blocks(), [&](int64_t index, int) {
    const Block& block = layout.blocks()[static_cast<size_t>(index)];
    T* to = rows + block.begin * stride;
    for (int64_t r = block.run_begin; r < block.run_end; ++r) {
      load_run(from, layout.run(r), padding, to, stride, order);
      to += layout.run(r).length * stride;
    }
  });
}

template <typename T>
void store_block(const CpuLayout& layout, const Block& block, const T* rows, NodeView<T> to,
                 const int32_t* order) {
  const int64_t stride = padded_stride<T>(to.num_channels);
  for (int64_t r = block.run_begin; r < block.run_end; ++r) {
    if (r + 1 < block.run_end) prefetch_run<Use::write>(to, layout.run(r + 1));
    store_run(rows, stride, layout.run(r), to, order);
    rows += layout.run(r).length * stride;
  }
}

template <typename T>
void store_nodes(const CpuLayout& layout, const T* rows, NodeView<T> to) {
  const int64_t stride = padded_stride<T>(to.num_channels);
  parallel_for(layout.num_blocks(), [&](int64_t index, int) {
    const Block& block = layout.blocks()[static_cast<size_t>(index)];
    store_block(layout, block, rows + block.begin * stride, to, nullptr);
  });
}

#define DF_INSTANTIATE(T)                                                                \
  template int64_t padded_stride<T>(int64_t);                                            \
  template void load_run(NodeView<const T>, const Run&, T, T*, int64_t, const int32_t*); \
  template void load_nodes(const CpuLayout&, NodeView<const T>, T, T*, const int32_t*);  \
  template void store_block(const CpuLayout&, const Block&, const T*, NodeView<T>,       \
                            const int32_t*);                                             \
  template void store_nodes(const CpuLayout&, const T*, NodeView<T>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
