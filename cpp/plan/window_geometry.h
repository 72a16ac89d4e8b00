// Which neighbours of a node lie in its window.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "../core/window.h"
#include "densefield/window.h"

namespace densefield {

// A place on a grid of three axes (z, y, x); grids of fewer have leading extents of 1.
using Place = std::array<int64_t, 3>;

// The neighbours on the grid row (dz, dy) away: dx from -radius to radius.
struct WindowRowSpan {
  int64_t dz;
  int64_t dy;
  int64_t radius;
  int64_t first_tap;
};

// The grid of nodes and the grid of cells that messages pass between.
struct CellGrid {
  Place fine;
  Place coarse;
  Place phase;      // nodes of the first cell that lie outside
  Place cell_size;  // 1 along a batch, and along axes that the grid has not
  int batch_axis;   // the axis that counts the grids of a batch; -1: one grid

  // Whether cells hold several nodes.
  DF_HD bool has_cells() const { return cell_size[2] > 1; }
};

// Throws Error (value) unless each grid has 1 to 3 axes, with that of the batch.
CellGrid make_cell_grid(const Grid& grid, const WindowOptions& options);

// Which cells lie in a cell's window. Taps are numbered in the order of their offsets, so that
// tap t and tap num_taps - 1 - t are opposite. Offsets that no two cells have are left out.
struct WindowGeometry {
  WindowGeometry(const CellGrid& grid, WindowShape shape, int64_t filter_size);

  int64_t num_rows() const { return extent[0] * extent[1]; }
  int64_t num_nodes() const { return num_rows() * extent[2]; }
  int64_t centre() const { return num_taps / 2; }
  int64_t row_distance(const WindowRowSpan& span) const { return span.dz * extent[1] + span.dy; }
  bool has_neighbour_row(int64_t row, const WindowRowSpan& span) const {
    const int64_t z = row / extent[1] + span.dz, y = row % extent[1] + span.dy;
    return z >= 0 && z < extent[0] && y >= 0 && y < extent[1];
  }

  Place extent;
  std::vector<WindowRowSpan> spans;
  int64_t num_taps = 0;
  int64_t radius = 0;  // of the widest span
};

// Whether the weights are: scales on one side that stay at the nodes do not count.
template <typename T>
bool has_symmetric_weights(const WindowOptions& options, std::span<const WindowTerm<T>> terms) {
  for (const WindowTerm<T>& term : terms)
    if (options.cell_size == 1 &&
        (term.normalization == Normalization::before || term.normalization == Normalization::after))
      return false;
  return true;
}

// Elements of a table of weights; throws Error (memory) where 64 bits would not count them.
int64_t window_table_size(int64_t rows, int64_t width, int64_t num_taps);

}  // namespace densefield
