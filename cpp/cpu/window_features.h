// Features as planes on the grid of cells, for the weights of a window table.
#pragma once

#include <algorithm>
#include <vector>

#include "densefield/buffer.h"
#include "window_geometry.h"
#include "window_resample.h"

namespace densefield::cpu {

// Positions enter as differences, which are the same for a whole grid row of cells, but for
// x where cells at the border hold fewer nodes: then x is one more plane.
template <typename T>
class WindowFeatures {
 public:
  WindowFeatures(const CellGrid& grid, int64_t margin, const Features<T>& features)
      : margin_(margin),
        num_cells_(grid.coarse[0] * grid.coarse[1] * grid.coarse[2]),
        has_x_plane_(grid.has_cells() && !features.sigma_position.empty()) {
    const auto channels = static_cast<size_t>(features.values.num_channels);
    const std::vector<T>& sigma = features.sigma_position;
    for (size_t c = 0; c < channels; ++c) inverse_sigma.push_back(T(1) / features.sigma_value[c]);
    if (has_x_plane_) inverse_sigma.push_back(T(1) / sigma[0]);
    planes_ = Buffer<T>(host_memory(),
                        static_cast<int64_t>(inverse_sigma.size()) * (num_cells_ + 2 * margin_));
    std::fill_n(planes_.data(), planes_.size(), T(0));
    load_channels(grid, features.values);
    for (size_t a = 0; a < 3; ++a) centre_[a] = cell_centres(grid, a);
    // Sigmas come in the order x, y, z.
    for (size_t a = 0; a < sigma.size(); ++a) inverse_position_[2 - a] = 1.0 / double(sigma[a]);
    if (!has_x_plane_) return;
    T* plane = planes_.data() + plane_begin(channels);
    for (int64_t i = 0; i < num_cells_; ++i)
      plane[i] = T(centre_[2][static_cast<size_t>(i % grid.coarse[2])]);
    inverse_position_[2] = 0;
  }

  const T* plane(size_t channel) const { return planes_.data() + plane_begin(channel); }

  double squared_between_rows(int64_t row, const WindowRowSpan& span) const {
    const double dz = step_between_rows(0, row, span), dy = step_between_rows(1, row, span);
    return dz * dz + dy * dy;
  }
  double squared_along_row(int64_t dx) const {
    const double step = double(dx) * inverse_position_[2];
    return step * step;
  }

  // The distance of two rows along an axis (0: z, 1: y), in sigmas; 0 where position is no
  // feature.
  double step_between_rows(size_t axis, int64_t row, const WindowRowSpan& span) const {
    const auto rows = static_cast<int64_t>(centre_[1].size());
    return axis == 0 ? step(0, row / rows, span.dz) : step(1, row % rows, span.dy);
  }
  // Whether x is the last plane rather than a difference.
  bool has_x_plane() const { return has_x_plane_; }

  std::vector<T> inverse_sigma;  // of the planes

 private:
  int64_t plane_begin(size_t channel) const {
    return static_cast<int64_t>(channel) * (num_cells_ + 2 * margin_) + margin_;
  }
  double step(size_t axis, int64_t from, int64_t distance) const {
    const std::vector<double>& centre = centre_[axis];
    return (centre[static_cast<size_t>(from + distance)] - centre[static_cast<size_t>(from)]) *
           inverse_position_[axis];
  }

  static std::vector<double> cell_centres(const CellGrid& grid, size_t a) {
    std::vector<double> centre;
    for (int64_t c = 0; c < grid.coarse[a]; ++c)
      centre.push_back(nodes_of_cell(c, grid.phase[a], grid.cell_size[a], grid.fine[a]).centre());
    return centre;
  }

  void load_channels(const CellGrid& grid, const NodeView<const T>& values) {
    const int64_t num_nodes = grid.fine[0] * grid.fine[1] * grid.fine[2];
    Buffer<T> nodes;
    if (grid.has_cells()) nodes = Buffer<T>(host_memory(), num_nodes);
    for (int64_t c = 0; c < values.num_channels; ++c) {
      T* plane = planes_.data() + plane_begin(static_cast<size_t>(c));
      T* to = grid.has_cells() ? nodes.data() : plane;
      for (int64_t i = 0; i < num_nodes; ++i) to[i] = values.at(c, i);
      if (grid.has_cells()) pool<T>(grid, to, nullptr, 1, plane);
    }
  }

  int64_t margin_;
  int64_t num_cells_;
  bool has_x_plane_;
  Buffer<T> planes_;  // [channels, margin + cells + margin]
  std::vector<double> centre_[3];
  double inverse_position_[3] = {0, 0, 0};
};

}  // namespace densefield::cpu
