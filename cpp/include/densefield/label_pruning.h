// Labels that are likely nowhere get no messages: maths §2 "Labels that are nowhere likely".
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "densefield/buffer.h"
#include "densefield/lattice.h"
#include "densefield/view.h"

namespace densefield {

// What a mean-field pass does with such labels. Rows of nodes have all labels, in `order`; rows
// of vertices have the first num_active of them.
template <typename T>
struct PassLabels {
  const int32_t* order;  // [num_labels] the caller's label at each place of a row
  int64_t num_active;
  // The softmax of the unary alone, [groups of row_stride(1) labels, plane]: plane 0 has a node's
  // largest score, and plane g the sum over group g of exp(score - largest). Out in a pass without
  // messages, in where labels are left out.
  T* term;
  int64_t plane;  // N + row_stride(1) at least: passes may read that many behind the last node
  // Out, [groups of active labels]: the largest sum of a group's marginals at a node, group 0
  // being the labels that are left out. nullptr: not asked for.
  std::vector<T>* share;
};

// What a backend needs for it beside such passes.
template <typename T>
class LabelPruner {
 public:
  virtual ~LabelPruner() = default;

  // Labels by their weight in a sample of the nodes, most first; the same for the same unary.
  virtual std::vector<int32_t> order(NodeView<const T> unary) const = 0;
  // As Backend::load_nodes, place c of a row being channel order[c].
  virtual void load_nodes(const NodeLayout&, NodeView<const T> from, T padding,
                          const std::vector<int32_t>& order, T* rows) const = 0;
  // Leaves the first num_channels of rows that were splatted and not blurred.
  virtual void narrow(const Lattice<T>&, int64_t num_channels, VertexRows<T>&) const = 0;
};

}  // namespace densefield
