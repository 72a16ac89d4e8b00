// Views own nothing and copy nothing. Strides count elements and may be negative or zero.
#pragma once

#include <cstdint>
#include <vector>

namespace densefield {

// The values of N nodes in the caller's own layout: element (channel c, node i) is
// data[c * channel_stride + i * node_stride]. Labels-first images and point-major
// tables are both of this form.
template <typename T>
struct NodeView {
  T* data;
  int64_t num_nodes;
  int64_t num_channels;
  int64_t node_stride;
  int64_t channel_stride;

  T& at(int64_t channel, int64_t node) const {
    return data[channel * channel_stride + node * node_stride];
  }
};

// The shape of the nodes: extents of a grid, slowest axis first, or {N} for a point set.
// Node i of a grid is its i-th element in C order.
struct Grid {
  std::vector<int64_t> extent;

  int64_t num_nodes() const {
    int64_t count = 1;
    for (int64_t e : extent) count *= e;
    return count;
  }
};

}  // namespace densefield
