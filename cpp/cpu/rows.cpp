// Between the caller's layout and padded rows in the order of the blocks.
#include "densefield/threads.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {
namespace {

// Calls copy(run, first row of the run) for every run.
template <typename Copy>
void for_runs(const CpuLayout& layout, Copy copy) {
  parallel_for(layout.num_blocks(), num_threads(), [&](int64_t index, int) {
    const Block& block = layout.blocks()[static_cast<size_t>(index)];
    int64_t row = block.begin;
    for (int64_t r = block.run_begin; r < block.run_end; ++r) {
      copy(layout.run(r), row);
      row += layout.run(r).length;
    }
  });
}

}  // namespace

template <typename T>
int64_t padded_stride(int64_t num_channels) {
  constexpr int64_t kLanes = simd::kRowBytes / static_cast<int64_t>(sizeof(T));
  return (num_channels + kLanes - 1) / kLanes * kLanes;
}

template <typename T>
void load_nodes(const CpuLayout& layout, NodeView<const T> from, T padding, T* rows) {
  const int64_t stride = padded_stride<T>(from.num_channels);
  for_runs(layout, [&](const Run& run, int64_t row) {
    T* to = rows + row * stride;
    for (int64_t c = 0; c < from.num_channels; ++c) {
      const T* value = &from.at(c, run.node);
      for (int64_t i = 0; i < run.length; ++i) to[i * stride + c] = value[i * from.node_stride];
    }
    for (int64_t i = 0; i < run.length; ++i)
      for (int64_t c = from.num_channels; c < stride; ++c) to[i * stride + c] = padding;
  });
}

template <typename T>
void store_nodes(const CpuLayout& layout, const T* rows, NodeView<T> to) {
  const int64_t stride = padded_stride<T>(to.num_channels);
  for_runs(layout, [&](const Run& run, int64_t row) {
    const T* from = rows + row * stride;
    for (int64_t c = 0; c < to.num_channels; ++c) {
      T* value = &to.at(c, run.node);
      for (int64_t i = 0; i < run.length; ++i) value[i * to.node_stride] = from[i * stride + c];
    }
  });
}

template int64_t padded_stride<float>(int64_t);
template int64_t padded_stride<double>(int64_t);
template void load_nodes(const CpuLayout&, NodeView<const float>, float, float*);
template void load_nodes(const CpuLayout&, NodeView<const double>, double, double*);
template void store_nodes(const CpuLayout&, const float*, NodeView<float>);
template void store_nodes(const CpuLayout&, const double*, NodeView<double>);

}  // namespace densefield::cpu
