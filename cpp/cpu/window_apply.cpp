// The window kernel as an operator: out = K~ in, its transpose and its diagonal.
#include <algorithm>
#include <vector>

#include "../core/window.h"
#include "densefield/threads.h"
#include "scratch.h"
#include "steps.h"
#include "window_table.h"

namespace densefield::cpu {
namespace {

// rows[i] *= scale[i]
template <typename T>
void scale_rows(const T* scale, int64_t begin, int64_t end, int64_t stride, T* rows) {
  for (int64_t i = begin; i < end; ++i)
    for (int64_t c = 0; c < stride; ++c) rows[i * stride + c] *= scale[i];
}

template <typename T>
void apply_between_cells(const CpuWindowTable<T>& table, const T* rows, int64_t stride, T* out) {
  const Buffer<T> lines = messages_along_rows(table, cell_means(table, rows, stride), stride);
  upsample_along_rows(table.cells, lines.data(), table.post.data(), stride, out);
}

template <typename T>
void apply_transpose_between_cells(const CpuWindowTable<T>& table, const T* rows, int64_t stride,
                                   T* out) {
  const CellGrid& grid = table.cells;
  CellRows<T> cells(table, stride);
  upsample_transpose(grid, rows, table.post.data(), stride, cells.data());
  Buffer<T> messages(host_memory(), table.geometry.num_nodes() * stride);
  pass_messages(table, cells.data(), stride, true, messages.data());
  pool_transpose(grid, messages.data(), stride, out);
  if (!table.pre.is_empty())
    parallel_for(grid.fine[0] * grid.fine[1], [&](int64_t row, int) {
      scale_rows(table.pre.data(), row * grid.fine[2], (row + 1) * grid.fine[2], stride, out);
    });
}

// The weight that passes from cell `from` to cell `to`, 0 beyond the window.
template <typename T>
T weight_between(const CpuWindowTable<T>& table, const int64_t* to, const int64_t* from) {
  for (const WindowRowSpan& span : table.geometry.spans) {
    const int64_t dx = from[2] - to[2];
    if (span.dz != from[0] - to[0] || span.dy != from[1] - to[1]) continue;
    if (dx < -span.radius || dx > span.radius) return T(0);
    const int64_t row = to[0] * table.geometry.extent[1] + to[1];
    return table.weight(row, to[2], span.first_tap + span.radius + dx);
  }
  return T(0);
}

template <typename T>
T diagonal_between_cells(const CpuWindowTable<T>& table, const Place& node) {
  const CellGrid& grid = table.cells;
  return cell_kernel_diagonal<T>(
      node.data(), grid.fine.data(), grid.coarse.data(), grid.phase.data(), grid.cell_size.data(),
      [&](const int64_t* cell, const int64_t* own) { return weight_between(table, cell, own); });
}

}  // namespace

template <typename T>
void pass_messages(const CpuWindowTable<T>& table, const T* rows, int64_t stride, bool transpose,
                   T* out) {
  const int64_t width = table.geometry.extent[2];
  const RowTasks tasks(table.geometry.extent);
  parallel_for(tasks.num_tasks(), [&](int64_t task, int) {
    struct Blocks;
    WindowRowReader<T> reader(table, rows, stride, transpose && !table.is_symmetric);
    const auto message = [&](int64_t index, int64_t begin, int64_t end, T* to) {
      if (begin == end) return;
      simd::window_kernels<T>().message(reader.row(index, begin, end), stride, to);
    };
    tasks.for_pieces(task, [&](int64_t row, int64_t begin, int64_t end) {
      // Whole blocks straight into place, the rest by way of scratch: the next row's pixels
      // may be another thread's.
      const int64_t whole = begin + (end - begin) / simd::kWindowBlock * simd::kWindowBlock;
      T* to = out + (row * width + begin) * stride;
      message(row, begin, whole, to);
      T* block = thread_scratch<T, Blocks>(simd::kWindowBlock * stride);
      message(row, whole, end, block);
      std::copy_n(block, (end - whole) * stride, to + (whole - begin) * stride);
    });
  });
}

template <typename T>
CellRows<T> cell_means(const CpuWindowTable<T>& table, const T* rows, int64_t stride) {
  CellRows<T> means(table, stride);
  pool(table.cells, rows, table.pre.data(), stride, means.data());
  return means;
}

template <typename T>
Buffer<T> messages_along_rows(const CpuWindowTable<T>& table, const CellRows<T>& means,
                              int64_t stride) {
  const CellGrid& grid = table.cells;
  Buffer<T> messages(host_memory(), table.geometry.num_nodes() * stride);
  pass_messages(table, means.data(), stride, false, messages.data());
  Buffer<T> lines(host_memory(), grid.fine[0] * grid.fine[1] * grid.coarse[2] * stride);
  upsample_rows(grid, messages.data(), stride, lines.data());
  return lines;
}

template <typename T>
void apply_window(const CpuWindowTable<T>& table, const T* rows, int64_t num_channels,
                  bool transpose, T* out) {
  const int64_t stride = padded_stride<T>(num_channels);
  if (!table.cells.has_cells()) return pass_messages(table, rows, stride, transpose, out);
  if (transpose) return apply_transpose_between_cells(table, rows, stride, out);
  apply_between_cells(table, rows, stride, out);
}

template <typename T>
void window_diagonal(const CpuWindowTable<T>& table, T* out) {
  const int64_t width = table.cells.fine[2];
  parallel_for(table.cells.fine[0] * table.cells.fine[1], [&](int64_t row, int) {
    for (int64_t x = 0; x < width; ++x) {
      T& value = out[row * width + x];
      if (!table.cells.has_cells()) {
        value = table.weight(row, x, table.geometry.centre());
        continue;
      }
      value =
          diagonal_between_cells(table, {row / table.cells.fine[1], row % table.cells.fine[1], x});
      if (!table.pre.is_empty()) value *= table.pre[row * width + x] * table.post[row * width + x];
    }
  });
}

#define DF_INSTANTIATE(T)                                                                        \
  template void pass_messages(const CpuWindowTable<T>&, const T*, int64_t, bool, T*);            \
  template CellRows<T> cell_means(const CpuWindowTable<T>&, const T*, int64_t);                  \
  template Buffer<T> messages_along_rows(const CpuWindowTable<T>&, const CellRows<T>&, int64_t); \
  template void apply_window(const CpuWindowTable<T>&, const T*, int64_t, bool, T*);             \
  template void window_diagonal(const CpuWindowTable<T>&, T*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
