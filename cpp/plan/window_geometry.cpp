#include "window_geometry.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "densefield/error.h"

namespace densefield {

WindowGeometry::WindowGeometry(const CellGrid& grid, WindowShape shape, int64_t filter_size)
    : extent(grid.coarse) {
  const int64_t reach = shape == WindowShape::square ? filter_size / 2 : filter_size;
  const auto reach_along = [&](int axis) {
    return axis == grid.batch_axis ? 0 : std::min(reach, extent[static_cast<size_t>(axis)] - 1);
  };
  const int64_t reach_z = reach_along(0), reach_y = reach_along(1);
  for (int64_t dz = -reach_z; dz <= reach_z; ++dz)
    for (int64_t dy = -reach_y; dy <= reach_y; ++dy) {
      int64_t reach_x = reach;
      if (shape == WindowShape::diamond) reach_x -= std::abs(dz) + std::abs(dy);
      if (reach_x < 0) continue;
      const int64_t row_radius = std::min(reach_x, extent[2] - 1);
      spans.push_back({dz, dy, row_radius, num_taps});
      num_taps += 2 * row_radius + 1;
      radius = std::max(radius, row_radius);
    }
}

CellGrid make_cell_grid(const Grid& grid, const WindowOptions& options) {
  CellGrid cells{{1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, -1};
  const size_t axes = grid.extent.size(), first = options.is_batch ? 1 : 0;
  if (axes < 1 + first || axes > 3)
    fail_value("window kernels need a grid of 1 to 3 dimensions, got " + std::to_string(axes));
  if (options.is_batch) cells.batch_axis = static_cast<int>(3 - axes);
  for (size_t a = 0; a < axes; ++a) cells.fine[3 - axes + a] = grid.extent[a];
  if (options.cell_size > 1)
    for (size_t a = first; a < axes; ++a) {
      cells.cell_size[3 - axes + a] = options.cell_size;
      cells.phase[3 - axes + a] = options.phase[a];
    }
  for (size_t a = 0; a < 3; ++a)
    cells.coarse[a] = cell_of(cells.fine[a] - 1, cells.phase[a], cells.cell_size[a]) + 1;
  return cells;
}

int64_t window_table_size(int64_t rows, int64_t width, int64_t num_taps) {
  constexpr double kMost = 1e17;
  if (double(rows) * double(width) * double(num_taps) > kMost)
    throw Error(Error::Kind::memory, "not enough memory: a window of " + std::to_string(num_taps) +
                                         " weights per node is wanted; use a smaller "
                                         "filter_size, or tiles");
  return rows * width * num_taps;
}

}  // namespace densefield
