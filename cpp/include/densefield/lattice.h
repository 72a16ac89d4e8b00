// The permutohedral lattice as the algorithms see it, [ABD10], maths §4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "densefield/view.h"

namespace densefield {

// What a point's feature vector is made of, in this order: its grid position (x, y, z: the
// last grid axis first) and its values, each divided by its own standard deviation.
template <typename T>
struct Features {
  std::vector<T> sigma_position;  // one per grid axis in the order x, y, z; empty: no position
  NodeView<const T> values;       // image channels or given features; num_channels may be 0
  std::vector<T> sigma_value;     // one per channel

  int dim() const {
    return static_cast<int>(sigma_position.size() + static_cast<size_t>(values.num_channels));
  }
};

// How the nodes are arranged inside a backend. Rows of values are in this order.
class NodeLayout {
 public:
  virtual ~NodeLayout() = default;
  virtual int64_t num_nodes() const = 0;
};

// The tables of one lattice. Immutable after the build; may be shared between threads.
template <typename T>
class Lattice {
 public:
  virtual ~Lattice() = default;
  virtual int64_t num_points() const = 0;
  virtual int64_t num_vertices() const = 0;
  virtual int dim() const = 0;
  virtual int num_grid_axes() const = 0;  // of a kernel on the grid itself; 0 for a lattice
  virtual T slice_scale() const = 0;      // what the filter multiplies a slice by, maths §4 step 7
  virtual int64_t num_bytes() const = 0;
};

// Values on the vertices of one lattice, and what a backend needs to splat and blur them.
template <typename T>
class VertexRows {
 public:
  virtual ~VertexRows() = default;
};

}  // namespace densefield
