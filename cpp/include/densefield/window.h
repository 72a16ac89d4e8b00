// The Gaussian kernel cut to a window of the grid, [TC18], maths §5, as the algorithms see it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "densefield/buffer.h"
#include "densefield/lattice.h"
#include "densefield/normalization.h"
#include "densefield/update_scratch.h"

namespace densefield {

template <typename T>
struct CompatibilityTable;  // backend.h

// The neighbours of a node: |offset| <= filter_size / 2 along every axis (square, filter_size
// is odd), or a sum of |offsets| <= filter_size (diamond, the distance of the paper's text).
enum class WindowShape { square, diamond };

struct WindowOptions {
  WindowShape shape = WindowShape::square;
  int64_t filter_size = 7;
  // Messages pass between cells of this many nodes along every axis: values are averaged over
  // a cell's nodes before, and interpolated between cell centres after. 1: between the nodes.
  int64_t cell_size = 1;
  // Nodes of the first cell that lie outside the grid, one number per axis, slowest first.
  std::vector<int64_t> phase;
  // The first axis of the grid counts grids of a batch: no window or cell holds nodes of two.
  bool is_batch = false;
};

template <typename T>
struct WindowTerm {
  Features<T> features;
  T weight = 1;
  Normalization normalization = Normalization::none;
};

// The weights of a sum of normalised kernels, sum_m w_m K~_m, merged into one. Immutable.
template <typename T>
class WindowTable {
 public:
  virtual ~WindowTable() = default;
  virtual int64_t num_taps() const = 0;
  virtual int64_t num_bytes() const = 0;
  // Rows before the first and behind the last that must be there and hold 0.
  virtual int64_t margin() const = 0;
};

// One fused mean-field update with window kernels: messages, compatibility, softmax.
// Rows are in grid order.
template <typename T>
struct WindowPass {
  const NodeLayout* layout;
  int64_t num_labels;
  std::span<const std::shared_ptr<const WindowTable<T>>> kernels;  // empty: softmax alone
  std::span<const CompatibilityTable<T>> compatibility;            // one per kernel
  std::span<const Buffer<T>> self;  // one per kernel, diagonals to leave out; or empty
  const T* unary;                   // [N, stride]; or nullptr:
  NodeView<const T> unary_nodes;    // the caller's, where Backend::uses_nodes
  const T* marginals;               // [N, stride] with margins, before the update
  T* updated;                       // [N, stride] out, the marginals after it; nullptr where
                                    // Backend::uses_nodes and nobody reads them there
  bool keeps_updated;               // false: what is left at `updated` is read by nobody
  T* scores;                        // [N, stride] out, what the softmax is taken of; or nullptr
  bool wants_change;
  const NodeView<T>* result;  // the caller's array for the marginals; or nullptr
  UpdateScratch<T>* scratch;  // of make_window_scratch
};

}  // namespace densefield
