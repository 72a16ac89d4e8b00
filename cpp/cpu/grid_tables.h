// The CPU's tables of a spatial kernel, core/grid_kernel.h.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "../core/grid_kernel.h"
#include "simd/kernels.h"

namespace densefield::cpu {

static_assert(1 << (kMaxGridKernelAxes - 1) <= simd::kMaxLines);

// One axis of the grid. The blocks of the layout cut it into intervals.
template <typename T>
struct GridAxis {
  int64_t step = 1;  // grid steps between nodes
  int64_t num_nodes = 0;
  std::vector<T> tap;               // filter on the nodes: taps 0, 1, .. to either side
  std::vector<T> tap_grad;          // their derivatives by sigma
  std::vector<T> corner_weight;     // [step, 2] of a point, by coordinate % step
  std::vector<int64_t> low, high;   // [intervals] nodes [low, high) that an interval touches
  std::vector<int64_t> first, end;  // [num_nodes] intervals [first, end) that touch a node

  int num_corners() const { return step == 1 ? 1 : 2; }
  int64_t num_intervals() const { return static_cast<int64_t>(low.size()); }
  int64_t reach() const { return static_cast<int64_t>(tap.size()) - 1; }
};

// Every block adds into a box of nodes of its own, one row per node in C order, box behind
// box; the filter then takes the sum of the boxes.
template <typename T>
struct GridTables {
  std::vector<GridAxis<T>> axes;  // slowest first
  int num_lines = 1;              // combinations of corners across all axes but the last
  std::array<int64_t, simd::kMaxLines> line_node;               // [num_lines]
  std::vector<std::array<int64_t, simd::kMaxLines>> line_slot;  // [blocks, num_lines]
  std::vector<simd::GridRun<T>> runs;                           // as the layout's

  const GridAxis<T>& last_axis() const { return axes.back(); }
  int64_t num_bytes() const {
    return static_cast<int64_t>(runs.size() * sizeof(runs[0]) +
                                line_slot.size() * sizeof(line_slot[0]));
  }
};

}  // namespace densefield::cpu
