// One tap of a Gaussian kernel cut to a window of the grid, and one cell of its downsampling:
// [TC18], maths §5.
#pragma once

#include "exp.h"

namespace densefield {

// What one feature adds to the squared distance of two nodes, in units of its sigma.
template <typename V>
DF_HD V squared_step(V here, V there, Scalar<V> inverse_sigma) {
  const V step = (there - here) * inverse_sigma;
  return step * step;
}

// g = exp(-squared / 2). What exp_nonpositive cannot tell from 0 is 0, so that no sum
// runs through numbers below the smallest normal one, which processors are slow at.
template <typename V>
DF_HD V window_weight(V squared) {
  using T = Scalar<V>;
  constexpr T kFarthest = sizeof(T) == 4 ? T(174) : T(1416);
  return squared < V{} + kFarthest ? exp_nonpositive(squared * T(-0.5)) : V{};
}

// dL/dg for both directions of a pair of nodes i, j, whose weights are scale post_i g pre_j and
// scale post_j g pre_i: g itself is the same number.
template <typename V>
DF_HD V window_pair_gradient(V grad_to_i, V grad_to_j, V pre_i_post_j, V post_i_pre_j,
                             Scalar<V> scale) {
  return scale * (grad_to_i * post_i_pre_j + grad_to_j * pre_i_post_j);
}

// g dL/dg of a pair, through the weights and through both nodes' n = K 1, maths §3: what moves
// a feature of i by this times its step to j.
template <typename V>
DF_HD V window_pair_share(V g, V grad_by_weight, V grad_by_norm_i, V grad_by_norm_j) {
  return g * (grad_by_weight + (grad_by_norm_i + grad_by_norm_j));
}

// dL/dsigma from the sum over nodes and their neighbours of share step^2 / sigma^2: every pair
// is there twice.
DF_HD double window_sigma_gradient(double sum, double sigma) { return 0.5 * sum / sigma; }

// The cell of a node along one axis. `phase` nodes of the first cell lie outside the grid.
DF_HD int64_t cell_of(int64_t node, int64_t phase, int64_t cell_size) {
  return (node + phase) / cell_size;
}

// The nodes of a cell that lie on the grid: [first, last).
struct CellNodes {
  int64_t first;
  int64_t last;

  DF_HD int64_t count() const { return last - first; }
  // The mean position: a whole or half number, so that differences are exact.
  DF_HD double centre() const { return double(first + last - 1) / 2; }
};
DF_HD CellNodes nodes_of_cell(int64_t cell, int64_t phase, int64_t cell_size, int64_t num_nodes) {
  const int64_t first = cell * cell_size - phase, last = first + cell_size;
  return {first < 0 ? 0 : first, last > num_nodes ? num_nodes : last};
}

// Bilinear upsampling along one axis: between the centres of two neighbouring cells.
// Outside the centres of the first and last cell the value is that cell's own, and so it is in
// the centre of any: a node that is a cell takes from no other, whatever lies there.
template <typename T>
struct CellPair {
  int64_t low;
  int64_t high;
  T share;  // of `high`; 1 - share of `low`
};
template <typename T>
DF_HD CellPair<T> cells_around(int64_t node, int64_t phase, int64_t cell_size, int64_t num_cells) {
  const int64_t cell = cell_of(node, phase, cell_size);
  // The place inside the cell alone, so that a tile of a grid rounds as the whole grid does.
  const int64_t place = node + phase - cell * cell_size;
  const T offset = (T(place) + T(0.5)) / T(cell_size) - T(0.5);
  CellPair<T> pair;
  pair.low = offset < T(0) ? cell - 1 : cell;
  pair.share = offset < T(0) ? T(1) + offset : offset;
  pair.high = offset == T(0) ? cell : pair.low + 1;
  if (pair.low < 0) pair.low = 0;
  if (pair.high > num_cells - 1) pair.high = num_cells - 1;
  return pair;
}

// What the interpolation along one axis takes from a cell.
template <typename T>
DF_HD T share_of_cell(const CellPair<T>& pair, int64_t cell) {
  return (pair.low == cell ? T(1) - pair.share : T(0)) + (pair.high == cell ? pair.share : T(0));
}

// Calls body(cell, own, factor) for the cells around a node: its own cell's share in what the
// node takes from that cell, U_ia / (nodes of its own cell). Cells, extents, phases and sizes
// [3]; near the border of the grid one cell may come several times.
template <typename T, typename Body>
DF_HD void for_cells_around(const int64_t* node, const int64_t* fine, const int64_t* coarse,
                            const int64_t* phase, const int64_t* cell_size, Body body) {
  int64_t own[3];
  CellPair<T> pair[3];
  T share = T(1);
  for (int a = 0; a < 3; ++a) {
    own[a] = cell_of(node[a], phase[a], cell_size[a]);
    pair[a] = cells_around<T>(node[a], phase[a], cell_size[a], coarse[a]);
    share = share / T(nodes_of_cell(own[a], phase[a], cell_size[a], fine[a]).count());
  }
  for (int corner = 0; corner < 8; ++corner) {
    int64_t cell[3];
    T factor = share;
    for (int a = 0; a < 3; ++a) {
      const bool is_high = (corner >> a & 1) != 0;
      cell[a] = is_high ? pair[a].high : pair[a].low;
      factor = factor * (is_high ? pair[a].share : T(1) - pair[a].share);
    }
    if (factor != T(0)) body(cell, own, factor);
  }
}

// The diagonal of D K U between cells (downsampling, kernel, upsampling) at one node, without
// scales: the sum over the cells a around it of U_ia K_a,own / (nodes of its own cell).
// weight(cell, own): K from the node's own cell to another one, both [3].
template <typename T, typename Weight>
DF_HD T cell_kernel_diagonal(const int64_t* node, const int64_t* fine, const int64_t* coarse,
                             const int64_t* phase, const int64_t* cell_size, Weight weight) {
  T sum = T(0);
  for_cells_around<T>(node, fine, coarse, phase, cell_size,
                      [&](const int64_t* cell, const int64_t* own, T factor) {
                        sum = sum + factor * weight(cell, own);
                      });
  return sum;
}

}  // namespace densefield
