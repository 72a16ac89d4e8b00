// The device's tables of a lattice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../cpp/core/blur.h"
#include "densefield/buffer.h"
#include "densefield/lattice.h"
#include "layout.cuh"

namespace densefield::cuda {

// The points around every vertex, vertex by vertex and in the order of the points: splatting
// gathers, so that every sum has one order. Long lists are cut into segments, which are summed
// in parallel and then added in their order.
template <typename T>
struct PointLists {
  int64_t num_segments = 0;
  Buffer<int32_t> point;           // [entries]
  Buffer<T> weight;                // [entries]
  Buffer<uint32_t> segment_begin;  // [segments + 1] first entry
  Buffer<uint32_t> vertex_begin;   // [M + 1] first segment

  int64_t num_bytes() const {
    return point.num_bytes() + weight.num_bytes() + segment_begin.num_bytes() +
           vertex_begin.num_bytes();
  }
};

// One axis of a spatial kernel on a grid, core/grid_kernel.h.
template <typename T>
struct GridAxis {
  int64_t step;  // grid steps between nodes
  int64_t num_nodes;
  Buffer<T> tap;       // filter on the nodes: taps 0, 1, .. to either side
  Buffer<T> tap_grad;  // their derivative by sigma
  T near[2];           // the first two of them, on the host
  T near_grad[2];

  int num_corners() const { return step == 1 ? 1 : 2; }
};

// A permutohedral lattice, or, if it has grid axes, the nodes of a spatial kernel: splat and
// slice are the same, the blur is not.
template <typename T>
class CudaLattice final : public Lattice<T> {
 public:
  int64_t num_points() const override { return layout->num_nodes(); }
  int64_t num_vertices() const override { return vertex_count; }
  int dim() const override { return dimension; }
  int num_grid_axes() const override { return static_cast<int>(grid_axes.size()); }
  int64_t num_bytes() const override {
    int64_t total = weight.num_bytes() + corner.num_bytes() + rank.num_bytes() +
                    neighbour.num_bytes() + lists.num_bytes();
    for (const GridAxis<T>& axis : grid_axes) total += 2 * axis.tap.num_bytes();
    return total;
  }
  T slice_scale() const override {
    return grid_axes.empty() ? densefield::slice_scale<T>(dimension) : T(1);
  }

  int dimension = 0;
  int corners = 0;  // of a simplex, d+1, or of a grid cell
  int64_t vertex_count = 0;
  std::shared_ptr<const CudaLayout> layout;
  Buffer<T> weight;        // [N, corners] barycentric
  Buffer<int32_t> corner;  // [N, corners] vertex
  Buffer<uint8_t> rank;    // [N, d+1] maths §4 step 2: the weights' derivative needs it
  PointLists<T> lists;

  // Permutohedral lattice. Before and behind a vertex along each direction; -1: missing.
  Buffer<int32_t> neighbour;  // [d+1, 2, M]

  // Spatial kernel.
  std::vector<GridAxis<T>> grid_axes;  // slowest axis first
};

template <typename T>
const CudaLattice<T>& as_cuda(const Lattice<T>& lattice) {
  return static_cast<const CudaLattice<T>&>(lattice);
}

// Values on the vertices. The blur goes back and forth between two arrays.
template <typename T>
class CudaVertexRows final : public VertexRows<T> {
 public:
  CudaVertexRows(DeviceMemory& memory, const CudaLattice<T>& lattice, int64_t channels)
      : num_channels(channels),
        values(memory, lattice.vertex_count * channels),
        spare(memory, lattice.vertex_count * channels),
        segments(memory, lattice.lists.num_segments * channels) {}

  const int64_t num_channels;
  Buffer<T> values;    // [M, C]
  Buffer<T> spare;     // [M, C]
  Buffer<T> segments;  // [segments, C] sums of the lists' pieces
};

template <typename T>
CudaVertexRows<T>& as_cuda(VertexRows<T>& rows) {
  return static_cast<CudaVertexRows<T>&>(rows);
}
template <typename T>
const CudaVertexRows<T>& as_cuda(const VertexRows<T>& rows) {
  return static_cast<const CudaVertexRows<T>&>(rows);
}

}  // namespace densefield::cuda
