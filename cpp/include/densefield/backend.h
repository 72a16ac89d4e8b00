// What the algorithms of cpp/crf need from a machine, and all that they use.
//
// Values of nodes are rows: row i holds the channels of the i-th node in the backend's
// layout, padded to row_stride(channels) elements. Functions may run asynchronously on a
// device; those that return a number wait for it.
#pragma once

#include <memory>
#include <span>

#include "densefield/buffer.h"
#include "densefield/compatibility_form.h"
#include "densefield/error.h"
#include "densefield/label_pruning.h"
#include "densefield/lattice.h"
#include "densefield/normalization.h"
#include "densefield/reverse.h"
#include "densefield/update_scratch.h"
#include "densefield/view.h"
#include "densefield/window.h"
#include "densefield/window_reverse.h"

namespace densefield {

// A_m of maths §6 on the backend: scalar [1], vector [row_stride], or matrix by columns,
// [num_labels, row_stride], column l' first. Padding is 0.
template <typename T>
struct CompatibilityTable {
  CompatibilityForm form = CompatibilityForm::scalar;
  Buffer<T> values;
};

// A normalised lattice kernel, maths §3: K~ = diag(post) K diag(pre), slice scale included.
template <typename T>
struct LatticeKernel {
  std::shared_ptr<const Lattice<T>> lattice;
  Buffer<T> pre;   // [N]
  Buffer<T> post;  // [N]
  Buffer<T> self;  // [N] diagonal of K~; empty unless updates subtract it
  Normalization normalization = Normalization::none;  // what `pre` and `post` came from
};

// One fused mean-field update, [KK11] Algorithm 1: for every node the messages of all
// kernels, compatibility, softmax, and the splat for the next update.
template <typename T>
struct MeanFieldPass {
  const NodeLayout* layout;
  int64_t num_labels;
  std::span<const LatticeKernel<T>> kernels;
  std::span<const CompatibilityTable<T>> compatibility;      // one per kernel
  std::span<const std::unique_ptr<VertexRows<T>>> vertices;  // one per kernel
  bool has_messages;              // false: softmax of the unary alone, maths §2 start
  bool splats;                    // false: nothing will be read after this update
  const T* unary;                 // [N, stride]; or nullptr:
  NodeView<const T> unary_nodes;  // the caller's, where Backend::uses_nodes
  const T* energy;                // [N, stride] pairwise energy of other operators; or nullptr
  const T* previous;              // [N, stride] last update's marginals where needed; or nullptr
  T* marginals;                   // [N, stride] out: this update's, may be `previous`; or nullptr
  bool wants_change;              // needs both
  const NodeView<T>* result;      // the caller's array for this update's marginals; or nullptr
  bool wants_scores;  // `result` gets what the softmax would be taken of; only without `splats`
  UpdateScratch<T>* scratch;  // of make_update_scratch
  // Only where Backend::label_pruner; nullptr: all labels, as the caller has them. With some left
  // out: no energy, previous, change or scores.
  const PassLabels<T>* labels;
};

// Sums for KL divergence and energy, maths §2, of one kernel.
struct PairwiseEnergy {
  double pairs = 0;  // sum over i, j (i = j included) of q_i A k q_j
  double self = 0;   // the part with i = j
};

// The same for two labels, on one number per node, docs/maths.md "Two labels": with
// t = q_1 - q_0 the score s = log q_1 - log q_0 of the next update is
// score - sum over kernels of coupling K~ t, and t = tanh(s / 2).
template <typename T>
struct BinaryPass {
  const NodeLayout* layout;
  std::span<const LatticeKernel<T>> kernels;
  std::span<const T> coupling;                               // one per kernel
  std::span<const std::unique_ptr<VertexRows<T>>> vertices;  // one per kernel, single values
  bool has_messages;
  bool splats;
  const T* score;             // [N] without messages
  const NodeView<T>* result;  // the caller's array for both marginals; or nullptr
  UpdateScratch<T>* scratch;  // of make_update_scratch, for one channel
};

template <typename T>
class Backend {
 public:
  virtual ~Backend() = default;

  virtual Memory& memory() = 0;
  // Between the host's memory and the backend's.
  virtual void upload(const T* from, int64_t count, T* to) const = 0;
  virtual void download(const T* from, int64_t count, T* to) const = 0;
  virtual int64_t row_stride(int64_t num_channels) const = 0;

  // A layout for lattices of at most max_dim dimensions; cost O(N / 32).
  virtual std::shared_ptr<const NodeLayout> make_layout(const Grid& grid, int max_dim) const = 0;
  virtual void load_nodes(const NodeLayout&, NodeView<const T> from, T padding, T* rows) const = 0;
  virtual void store_nodes(const NodeLayout&, const T* rows, NodeView<T> to) const = 0;

  // Throws Error (value) for NaN, infinity and coordinates beyond +-2^30 lattice cells.
  virtual std::shared_ptr<const Lattice<T>> build_lattice(std::shared_ptr<const NodeLayout>,
                                                          const Features<T>&) const = 0;
  // The Gaussian of grid positions alone, one sigma per grid axis (slowest first), for up to
  // max_grid_kernel_axes() axes: relative error below 0.3 %, same steps as a lattice.
  virtual std::shared_ptr<const Lattice<T>> build_grid_kernel(
      std::shared_ptr<const NodeLayout>, const std::vector<T>& sigma) const = 0;
  virtual int max_grid_kernel_axes() const = 0;
  virtual std::unique_ptr<VertexRows<T>> make_vertex_rows(const Lattice<T>&,
                                                          int64_t num_channels) const = 0;
  // For rows of one value per node without padding, stride 1.
  virtual std::unique_ptr<VertexRows<T>> make_vertex_values(const Lattice<T>&) const = 0;
  // vertices = S^T diag(pre) rows; pre may be nullptr.
  virtual void splat(const Lattice<T>&, const T* rows, const T* pre, VertexRows<T>&) const = 0;
  // vertices = B vertices, or B^T with the directions in reverse order.
  virtual void blur(const Lattice<T>&, bool reverse, VertexRows<T>&) const = 0;
  // The same for every kernel of an update, B not transposed; kernels do not wait for each other.
  virtual void blur_messages(std::span<const LatticeKernel<T>> kernels,
                             std::span<const std::unique_ptr<VertexRows<T>>> vertices) const {
    for (size_t m = 0; m < kernels.size(); ++m) blur(*kernels[m].lattice, false, *vertices[m]);
  }
  // rows = scale * diag(post) S vertices; post may be nullptr.
  virtual void slice(const Lattice<T>&, const VertexRows<T>&, const T* post, T scale,
                     T* rows) const = 0;
  virtual void load_vertices(const Lattice<T>&, NodeView<const T> from, VertexRows<T>&) const = 0;
  virtual void store_vertices(const Lattice<T>&, const VertexRows<T>&, NodeView<T> to) const = 0;
  // out[i] = K_ii, maths §4 "Diagonal": exact where the vertices on the way exist.
  virtual void diagonal(const Lattice<T>&, T* out) const = 0;

  // For mean_field_pass and binary_pass. `keeps_marginals`: the caller has rows for them.
  virtual std::unique_ptr<UpdateScratch<T>> make_update_scratch(const NodeLayout&,
                                                                int64_t num_channels,
                                                                size_t num_kernels,
                                                                bool keeps_marginals) const = 0;
  // nullptr where passes take all labels.
  virtual const LabelPruner<T>* label_pruner() const { return nullptr; }
  // Returns max |change of a marginal| where asked for, else 0.
  virtual T mean_field_pass(const MeanFieldPass<T>&) const = 0;

  // Two labels on one number per node. score[i] = U_0 - U_1
  virtual void binary_score(const NodeLayout&, NodeView<const T> unary, T* score) const = 0;
  virtual void binary_pass(const BinaryPass<T>&) const = 0;

  // The merged weights of a sum of window kernels; O(N taps). Several terms that are normalised
  // need cells of one node. Throws Error (memory) where the table would not fit.
  virtual std::shared_ptr<const WindowTable<T>> make_window_table(
      const Grid&, const WindowOptions&, std::span<const WindowTerm<T>>) const = 0;
  // out = K~ rows or K~^T rows, in grid order; `rows` has the table's margins, `out` has none.
  virtual void apply_window(const WindowTable<T>&, const T* rows, int64_t num_channels,
                            bool transpose, T* out) const = 0;
  virtual void window_diagonal(const WindowTable<T>&, T* out) const = 0;
  // For window_pass with tables of one model; nullptr where it needs nothing of the kind.
  virtual std::unique_ptr<UpdateScratch<T>> make_window_scratch(
      std::span<const std::shared_ptr<const WindowTable<T>>>, const NodeLayout&,
      int64_t /*num_labels*/) const {
    return nullptr;
  }
  // As mean_field_pass.
  virtual T window_pass(const WindowPass<T>&) const = 0;
  // Whether passes read the unary and write their result where the caller has them, so that
  // nobody needs rows of either.
  virtual bool uses_nodes() const { return false; }

  // The reverse pass, maths §6; structures in reverse.h. What is "added to"
  // must hold numbers before. Sums over nodes are the same bits on any number of threads.

  // For mean_field_reverse_pass and grid_sigma_gradient with these kernels.
  virtual std::unique_ptr<UpdateScratch<T>> make_reverse_scratch(
      const NodeLayout&, int64_t num_labels, std::span<const ReverseKernel<T>>) const = 0;
  // One mean-field update backwards.
  virtual void mean_field_reverse_pass(const MeanFieldReversePass<T>&) const = 0;
  // grad_weight[i][k] += scale * (rows_i . vertices at corner k of i), for `num_channels`.
  virtual void weight_gradient(const Lattice<T>&, const T* rows, const VertexRows<T>& vertices,
                               int64_t num_channels, T scale, T* grad_weight) const = 0;
  // For a kernel of build_grid_kernel, from rows that were splatted but not blurred, and can be
  // blurred after:
  // grad_sigma[a] += scale * sum over nodes of gradients . compatibility (dG / dsigma_a values).
  virtual void grid_sigma_gradient(const Lattice<T>&, VertexRows<T>& values,
                                   const VertexRows<T>& gradients,
                                   const CompatibilityTable<T>* compatibility, int64_t num_channels,
                                   double scale, UpdateScratch<T>* scratch,
                                   double* grad_sigma) const = 0;
  // grad_weight[i] += grad[i] dK_ii / dweight_i; of a grid kernel, grad_sigma[a] += the sum of
  // grad[i] dK_ii / dsigma_a.
  virtual void diagonal_gradient(const Lattice<T>&, const T* grad, T* grad_weight,
                                 double* grad_sigma) const = 0;
  virtual void scale_gradient(const ScaleGradient<T>&) const = 0;
  // From the weights' gradient to the features a lattice was built from. Their values are read
  // only for out.sigma_value.
  virtual void feature_gradient(const Lattice<T>&, const Features<T>&, const T* grad_weight,
                                const FeatureGradient<T>& out) const = 0;

  // The reverse pass of window kernels, maths §5 "Gradients" and §6; structures in
  // window_reverse.h. Sums over nodes are the same bits on any number of threads.

  // For add_window_gradient with the same two.
  virtual std::unique_ptr<WindowGradient<T>> make_window_gradient(const WindowTable<T>&,
                                                                  int64_t num_channels,
                                                                  bool excludes_self) const = 0;
  // Adds what a message K~ rows, less self rows where `excludes_self`, has to say:
  // dL/dK[tap, i] += grad_i . rows at i's neighbour, where grad = -A^T grad_scores, or
  // grad_scores itself for nullptr. `rows` has the table's margins.
  virtual void add_window_gradient(const WindowTable<T>&, const T* rows, const T* grad_scores,
                                   const CompatibilityTable<T>* transposed_compatibility,
                                   int64_t num_channels, bool excludes_self,
                                   WindowGradient<T>&) const = 0;
  // From the weights of a table to the terms that it was built from, through their
  // normalisation. Nothing can be added after.
  virtual void window_term_gradients(const WindowTable<T>&, WindowGradient<T>&,
                                     std::span<const WindowTermGradient<T>>) const = 0;
  // For window_reverse_pass with these kernels; nullptr likewise.
  virtual std::unique_ptr<UpdateScratch<T>> make_window_reverse_scratch(
      const NodeLayout&, int64_t /*num_labels*/, std::span<const WindowReverseKernel<T>>) const {
    return nullptr;
  }
  // One mean-field update backwards.
  virtual void window_reverse_pass(const WindowReversePass<T>&) const = 0;

  // out[i] = 1 / rows[i][0], or its square root: the scales of maths §3.
  virtual void normalizer(const NodeLayout&, const T* rows, int64_t stride, bool square_root,
                          T* out) const = 0;
  // out = a * b, element by element.
  virtual void multiply(const T* a, const T* b, int64_t count, T* out) const = 0;
  // to += from
  virtual void add(const T* from, int64_t count, T* to) const = 0;
  virtual void fill(T value, int64_t count, T* out) const = 0;

  virtual PairwiseEnergy pairwise_energy(const NodeLayout&, const T* marginals, const T* messages,
                                         const T* self, const CompatibilityTable<T>&, T offset,
                                         int64_t num_labels) const = 0;
  // Sum over nodes and labels of q U, and of q log q (0 log 0 = 0).
  virtual double unary_energy(const NodeLayout&, const T* marginals, const T* unary,
                              int64_t num_labels) const = 0;
  virtual double negative_entropy(const NodeLayout&, const T* marginals,
                                  int64_t num_labels) const = 0;
};

// The backend that is always there.
template <typename T>
Backend<T>& cpu_backend();

}  // namespace densefield
