// Features on the grid of cells, for the weights of a window table and their gradients.
#pragma once

#include <vector>

#include "../cpp/core/window.h"
#include "layout.cuh"
#include "window_table.cuh"

namespace densefield::cuda {

// What a kernel needs to weigh two cells.
template <typename T>
struct CellFeatures {
  WindowExtent extent;
  int64_t num_channels;
  const T* values;  // (channel, cell) at their strides
  int64_t channel_stride;
  int64_t cell_stride;
  const T* inverse_sigma;      // [channels]
  const double* centre[3];     // positions of the cells along z, y and x
  double inverse_position[3];  // 1 / sigma along z, y and x; 0: positions do not count

  template <typename Visit>
  void for_pointers(Visit visit) const {
    visit(values);
    visit(inverse_sigma);
    for (const double* along : centre) visit(along);
  }

  // The neighbour of cell (z, y, x) by a tap, or -1 beyond the grid.
  __device__ int64_t neighbour(int64_t cell, const WindowTap& tap) const {
    const int64_t z = cell / (extent.y * extent.x) + tap.dz,
                  y = cell / extent.x % extent.y + tap.dy;
    const int64_t x = cell % extent.x + tap.dx;
    const bool is_inside =
        z >= 0 && z < extent.z && y >= 0 && y < extent.y && x >= 0 && x < extent.x;
    return is_inside ? cell + tap.distance : -1;
  }

  __device__ double squared_along(int axis, int64_t from, int64_t distance) const {
    const double step =
        (centre[axis][from + distance] - centre[axis][from]) * inverse_position[axis];
    return step * step;
  }

  // g of a cell and the neighbour that exists, without scales. `along`: how far their positions
  // are from each other, squared, axis by axis; [3] out.
  __device__ T weight(int64_t cell, const WindowTap& tap, double* along) const {
    along[0] = squared_along(0, cell / (extent.y * extent.x), tap.dz);
    along[1] = squared_along(1, cell / extent.x % extent.y, tap.dy);
    along[2] = squared_along(2, cell % extent.x, tap.dx);
    T squared = static_cast<T>(along[0] + along[1] + along[2]);
    const T* here = values + cell * cell_stride;
    const T* there = here + tap.distance * cell_stride;
    for (int64_t c = 0; c < num_channels; ++c)
      squared +=
          squared_step(here[c * channel_stride], there[c * channel_stride], inverse_sigma[c]);
    return window_weight(squared);
  }
  __device__ T weight(int64_t cell, const WindowTap& tap) const {
    double along[3];
    return weight(cell, tap, along);
  }
};

// The features of a term at the cells, and what they are stored in.
template <typename T>
class TermFeatures {
 public:
  TermFeatures(DeviceMemory& memory, const CellGrid& grid, const Features<T>& features) {
    const NodeView<const T>& values = features.values;
    std::vector<T> inverse;
    for (T sigma : features.sigma_value) inverse.push_back(T(1) / sigma);
    inverse_sigma_ = upload(memory, inverse);
    given.extent = extent_of(grid.coarse);
    given.num_channels = values.num_channels;
    if (!grid.has_cells()) {
      on_device_ = bring_to_device(memory, values);
      given.values = on_device_.view.data;
      given.channel_stride = on_device_.view.channel_stride;
      given.cell_stride = on_device_.view.node_stride;
    } else if (values.num_channels > 0) {
      Buffer<T> rows(memory, values.num_nodes * values.num_channels);
      load_rows(memory, values, rows.data());
      means_ = Buffer<T>(memory, given.extent.count() * values.num_channels);
      pool<T>(memory, grid, rows.data(), nullptr, values.num_channels, means_.data());
      given.values = means_.data();
      given.channel_stride = 1;
      given.cell_stride = values.num_channels;
    }
    given.inverse_sigma = inverse_sigma_.data();
    for (std::size_t a = 0; a < 3; ++a) {
      std::vector<double> along;
      for (int64_t c = 0; c < grid.coarse[a]; ++c)
        along.push_back(nodes_of_cell(c, grid.phase[a], grid.cell_size[a], grid.fine[a]).centre());
      centre_[a] = upload(memory, along);
      given.centre[a] = centre_[a].data();
    }
    // Sigmas come in the order x, y, z.
    for (std::size_t a = 0; a < features.sigma_position.size(); ++a)
      given.inverse_position[2 - a] = 1.0 / double(features.sigma_position[a]);
  }

  CellFeatures<T> given{};

 private:
  DeviceView<T> on_device_;
  Buffer<T> means_;  // [cells, channels]
  Buffer<T> inverse_sigma_;
  Buffer<double> centre_[3];
};

// What stands at the two sides of a normalised kernel at the nodes, maths §3.
template <typename T>
struct NodeScales {
  Buffer<T> pre;   // [N]
  Buffer<T> post;  // [N]
};
// window_build.cu. `weight` is put into `post`.
template <typename T>
NodeScales<T> node_scales(DeviceMemory&, const CudaWindowTable<T>&, const CellFeatures<T>&,
                          Normalization, T weight);

}  // namespace densefield::cuda
