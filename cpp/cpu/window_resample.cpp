#include "window_resample.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "../core/window.h"
#include "densefield/buffer.h"
#include "densefield/threads.h"
#include "scratch.h"
#include "simd/window_kernels.h"

namespace densefield::cpu {
namespace {

// One axis of an array: [outer, length, inner].
struct AxisShape {
  int64_t outer;
  int64_t inner;
};

// extents: of the other axes as they are at this step.
AxisShape axis_shape(const Place& extent, int axis, int64_t stride) {
  AxisShape shape{1, stride};
  for (int a = 0; a < axis; ++a) shape.outer *= extent[static_cast<size_t>(a)];
  for (int a = axis + 1; a < 3; ++a) shape.inner *= extent[static_cast<size_t>(a)];
  return shape;
}

// line(outer, first, count) for pieces of the inner dimension, in parallel.
template <typename Line>
void for_lines(const AxisShape& shape, Line line) {
  constexpr int64_t kPiece = 4096;  // elements, few enough for the first-level cache
  const int64_t pieces = (shape.inner + kPiece - 1) / kPiece;
  parallel_for(shape.outer * pieces, [&](int64_t task, int) {
    const int64_t first = task % pieces * kPiece;
    line(task / pieces, first, std::min(kPiece, shape.inner - first));
  });
}

struct Axis {
  int64_t fine;
  int64_t coarse;
  int64_t phase;
  int64_t cell_size;

  // 1 / nodes of the cell that lie inside.
  template <typename T>
  T inverse_count(int64_t cell) const {
    return T(1) / T(nodes_of_cell(cell, phase, cell_size, fine).count());
  }
};

Axis axis_of(const CellGrid& grid, int axis) {
  const auto a = static_cast<size_t>(axis);
  return {grid.fine[a], grid.coarse[a], grid.phase[a], grid.cell_size[a]};
}

// scale: of the lines of nodes along x, [outer, length]; or nullptr.
template <typename T>
void pool_axis(const Axis& axis, const AxisShape& shape, const T* from, const T* scale, T* to) {
  for_lines(shape, [&](int64_t outer, int64_t first, int64_t count) {
    const T* in = from + outer * axis.fine * shape.inner + first;
    T* out = to + outer * axis.coarse * shape.inner + first;
    for (int64_t c = 0; c < axis.coarse; ++c) {
      const CellNodes nodes = nodes_of_cell(c, axis.phase, axis.cell_size, axis.fine);
      const T* weight = scale == nullptr ? nullptr : scale + outer * axis.fine + nodes.first;
      simd::window_kernels<T>().sum_rows({count, nodes.count(), in + nodes.first * shape.inner,
                                          shape.inner, weight, axis.inverse_count<T>(c),
                                          out + c * shape.inner});
    }
  });
}

template <typename T>
void upsample_axis(const Axis& axis, const AxisShape& shape, const T* from, T* to) {
  for_lines(shape, [&](int64_t outer, int64_t first, int64_t count) {
    const T* in = from + outer * axis.coarse * shape.inner + first;
    T* out = to + outer * axis.fine * shape.inner + first;
    for (int64_t i = 0; i < axis.fine; ++i) {
      const CellPair<T> pair = cells_around<T>(i, axis.phase, axis.cell_size, axis.coarse);
      const T weight[2] = {T(1) - pair.share, pair.share};
      simd::window_kernels<T>().sum_rows({count, 2, in + pair.low * shape.inner,
                                          (pair.high - pair.low) * shape.inner, weight, T(1),
                                          out + i * shape.inner});
    }
  });
}

// What the nodes around a cell take from it: nodes first, first + 1, .. have weight[0], ..
template <typename T>
struct Takers {
  int64_t first = 0;
  std::vector<T> weight;
};
template <typename T>
std::vector<Takers<T>> takers_of_cells(const Axis& axis) {
  std::vector<Takers<T>> takers(static_cast<size_t>(axis.coarse));
  for (int64_t i = 0; i < axis.fine; ++i) {
    const CellPair<T> pair = cells_around<T>(i, axis.phase, axis.cell_size, axis.coarse);
    for (int64_t cell = pair.low; cell <= pair.high; ++cell) {
      Takers<T>& of_cell = takers[static_cast<size_t>(cell)];
      if (of_cell.weight.empty()) of_cell.first = i;
      of_cell.weight.push_back(share_of_cell(pair, cell));
    }
  }
  return takers;
}

template <typename T>
void upsample_axis_transpose(const Axis& axis, const AxisShape& shape, const T* from,
                             const T* scale, T* to) {
  struct Weights;
  const std::vector<Takers<T>> takers = takers_of_cells<T>(axis);
  for_lines(shape, [&](int64_t outer, int64_t first, int64_t count) {
    const T* in = from + outer * axis.fine * shape.inner + first;
    T* out = to + outer * axis.coarse * shape.inner + first;
    for (const Takers<T>& of_cell : takers) {
      const auto num_nodes = static_cast<int64_t>(of_cell.weight.size());
      const T* weight = of_cell.weight.data();
      if (scale != nullptr) {
        T* scaled = thread_scratch<T, Weights>(num_nodes);
        const T* here = scale + outer * axis.fine + of_cell.first;
        std::transform(weight, weight + num_nodes, here, scaled, std::multiplies<T>());
        weight = scaled;
      }
      simd::window_kernels<T>().sum_rows(
          {count, num_nodes, in + of_cell.first * shape.inner, shape.inner, weight, T(1), out});
      out += shape.inner;
    }
  });
}

template <typename T>
Buffer<T> buffer_of(const Place& extent, int64_t stride) {
  return Buffer<T>(host_memory(), extent[0] * extent[1] * extent[2] * stride);
}

// x, y, z in turn: the data shrink most when the longest run goes first. step(axis, shape,
// from, is_first, to); the last writes to `cells`.
template <typename T, typename Step>
void nodes_to_cells(const CellGrid& grid, const T* nodes, int64_t stride, T* cells, Step step) {
  Place extent = grid.fine;
  extent[2] = grid.coarse[2];
  Buffer<T> rows = buffer_of<T>(extent, stride);
  step(axis_of(grid, 2), axis_shape(grid.fine, 2, stride), nodes, true, rows.data());
  const AxisShape along_y = axis_shape(extent, 1, stride);
  extent[1] = grid.coarse[1];
  Buffer<T> planes = buffer_of<T>(extent, stride);
  step(axis_of(grid, 1), along_y, rows.data(), false, planes.data());
  step(axis_of(grid, 0), axis_shape(extent, 0, stride), planes.data(), false, cells);
}

}  // namespace

template <typename T>
void pool(const CellGrid& grid, const T* nodes, const T* scale, int64_t stride, T* cells) {
  nodes_to_cells(grid, nodes, stride, cells,
                 [&](const Axis& axis, const AxisShape& shape, const T* from, bool is_first,
                     T* to) { pool_axis(axis, shape, from, is_first ? scale : nullptr, to); });
}

template <typename T>
void pool_transpose(const CellGrid& grid, const T* cells, int64_t stride, T* nodes) {
  const Axis z = axis_of(grid, 0), y = axis_of(grid, 1), x = axis_of(grid, 2);
  parallel_for(grid.fine[0] * grid.fine[1], [&](int64_t row, int) {
    const int64_t cz = cell_of(row / y.fine, z.phase, z.cell_size);
    const int64_t cy = cell_of(row % y.fine, y.phase, y.cell_size);
    const T share = z.inverse_count<T>(cz) * y.inverse_count<T>(cy);
    for (int64_t i = 0; i < x.fine; ++i) {
      const int64_t cx = cell_of(i, x.phase, x.cell_size);
      simd::window_kernels<T>().sum_rows(
          {stride, 1, cells + ((cz * y.coarse + cy) * x.coarse + cx) * stride, 0, nullptr,
           share * x.inverse_count<T>(cx), nodes + (row * x.fine + i) * stride});
    }
  });
}

template <typename T>
void upsample_rows(const CellGrid& grid, const T* cells, int64_t stride, T* rows) {
  Place extent = grid.coarse;
  const AxisShape along_z = axis_shape(extent, 0, stride);
  extent[0] = grid.fine[0];
  Buffer<T> planes = buffer_of<T>(extent, stride);
  upsample_axis(axis_of(grid, 0), along_z, cells, planes.data());
  upsample_axis(axis_of(grid, 1), axis_shape(extent, 1, stride), planes.data(), rows);
}

template <typename T>
std::vector<CellPair<T>> cells_along_row(const CellGrid& grid) {
  const Axis axis = axis_of(grid, 2);
  std::vector<CellPair<T>> pairs;
  pairs.reserve(static_cast<size_t>(axis.fine));
  for (int64_t i = 0; i < axis.fine; ++i)
    pairs.push_back(cells_around<T>(i, axis.phase, axis.cell_size, axis.coarse));
  return pairs;
}

template <typename T>
void upsample_along_rows(const CellGrid& grid, const T* rows, const T* post, int64_t stride,
                         T* nodes) {
  const std::vector<CellPair<T>> pairs = cells_along_row<T>(grid);
  const int64_t width = grid.fine[2];
  parallel_for(grid.fine[0] * grid.fine[1], [&](int64_t row, int) {
    simd::window_kernels<T>().interpolate(
        {width, stride, pairs.data(), rows + row * grid.coarse[2] * stride,
         post == nullptr ? nullptr : post + row * width, nodes + row * width * stride});
  });
}

template <typename T>
void upsample_transpose(const CellGrid& grid, const T* nodes, const T* scale, int64_t stride,
                        T* cells) {
  nodes_to_cells(
      grid, nodes, stride, cells,
      [&](const Axis& axis, const AxisShape& shape, const T* from, bool is_first, T* to) {
        upsample_axis_transpose(axis, shape, from, is_first ? scale : nullptr, to);
      });
}

#define DF_INSTANTIATE(T)                                                              \
  template void pool(const CellGrid&, const T*, const T*, int64_t, T*);                \
  template void pool_transpose(const CellGrid&, const T*, int64_t, T*);                \
  template void upsample_rows(const CellGrid&, const T*, int64_t, T*);                 \
  template std::vector<CellPair<T>> cells_along_row(const CellGrid&);                  \
  template void upsample_along_rows(const CellGrid&, const T*, const T*, int64_t, T*); \
  template void upsample_transpose(const CellGrid&, const T*, const T*, int64_t, T*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
