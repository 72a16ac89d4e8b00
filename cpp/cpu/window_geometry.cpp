#include "window_geometry.h"

#include <algorithm>
#include <cstdlib>

namespace densefield::cpu {

WindowGeometry::WindowGeometry(const Place& grid_extent, WindowShape shape, int64_t filter_size)
    : extent(grid_extent) {
  const int64_t reach = shape == WindowShape::square ? filter_size / 2 : filter_size;
  const int64_t reach_z = std::min(reach, extent[0] - 1), reach_y = std::min(reach, extent[1] - 1);
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

}  // namespace densefield::cpu
