// Dense CRF inference above any backend: the model of one image, mean field, energies.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "densefield/backend.h"
#include "densefield/field.h"
#include "densefield/normalization.h"

namespace densefield {

// The pairwise energy that label l' of a neighbour adds to label l: A_m = w_m mu_m of maths §6.
// `values` is [1] times the identity, [L] on the diagonal, or [L, L] row by row (l, l').
// `offset` is added to every entry: it moves all labels alike, so inference ignores it and
// energies do not. Potts, w [l != l'], is values = {-w}, offset = w.
template <typename T>
struct Compatibility {
  CompatibilityForm form = CompatibilityForm::scalar;
  std::vector<T> values;
  T offset = 0;
};

template <typename T>
struct KernelSpec {
  Features<T> features;
  Normalization normalization = Normalization::symmetric;
  // If given, one per grid axis, slowest first: a spatial kernel evaluated on the grid itself
  // rather than on a lattice, and `features` is not looked at.
  std::vector<T> grid_sigma = {};
};

// All that depends on the image and not on the unary: lattices and normalisations.
// Immutable; several inferences may use one at once.
template <typename T>
class CrfModel {
 public:
  CrfModel(Backend<T>& backend, const Grid& grid, const std::vector<KernelSpec<T>>& kernels,
           bool exclude_self);

  Backend<T>& backend() const { return *backend_; }
  const NodeLayout& layout() const { return *layout_; }
  int64_t num_nodes() const { return layout_->num_nodes(); }
  bool excludes_self() const { return exclude_self_; }
  const std::vector<LatticeKernel<T>>& kernels() const { return kernels_; }
  int64_t num_bytes() const;

 private:
  Backend<T>* backend_;
  std::shared_ptr<const NodeLayout> layout_;
  std::vector<LatticeKernel<T>> kernels_;
  bool exclude_self_;
};

template <typename T>
class MarginalHistory;  // crf_grad.h
template <typename T>
class LabelPruning;  // label_pruning.h

// Mean field [KK11] Algorithm 1: parallel updates from the softmax of the unary.
template <typename T>
class MeanField final : public Field<T> {
 public:
  // One compatibility for each kernel of the model. `keeps_marginals`: they can be stored
  // after every update, not after the last one only; if they are not, labels that are likely
  // nowhere may get no messages, maths §2. `returns_scores`: `finish` stores what the last softmax
  // would be taken of, and may read the unary again unless that may change.
  MeanField(std::shared_ptr<const CrfModel<T>> model,
            const std::vector<Compatibility<T>>& compatibility, NodeView<const T> unary,
            bool keeps_marginals, bool returns_scores, bool unary_may_change);
  // From rows of the backend: `unary`, padded with infinity. All marginals go to `history`. To be
  // started before the first update.
  MeanField(std::shared_ptr<const CrfModel<T>> model,
            const std::vector<Compatibility<T>>& compatibility, int64_t num_labels,
            std::shared_ptr<const Buffer<T>> unary, MarginalHistory<T>* history,
            bool returns_scores = false);
  ~MeanField() override;

  const CrfModel<T>& model() const { return *model_; }
  int64_t num_labels() const { return num_labels_; }
  int64_t num_active_labels() const;  // those that get messages

  // The first update follows the softmax of the unary; or the next one follows `marginals`,
  // [N, stride], which stay where they are: any number of times.
  void start();
  void start_at(const T* marginals);

  T update(bool wants_change) override;
  void finish(const ResultPlace<T>& place) override;
  void store_marginals(NodeView<T> to) const override;
  void load_marginals(NodeView<const T> from) override;

 private:
  void prepare_updates(const std::vector<Compatibility<T>>& compatibility);
  std::vector<int32_t> label_order() const;  // of rows; empty: as the caller has them
  void make_vertices();
  void follow_labels();
  void start_with_all_labels();
  void blur_messages();
  void blur_vertices();
  T pass(bool has_messages, bool splats, bool wants_change, const NodeView<T>* result);

  std::shared_ptr<const CrfModel<T>> model_;
  int64_t num_labels_;
  bool can_continue_ = true;                // false after the last update, and after one that threw
  NodeView<const T> unary_nodes_{};         // the caller's, if the last update reads it there
  std::shared_ptr<const Buffer<T>> unary_;  // [N, stride]
  Buffer<T> marginals_;                     // [N, stride] if kept, but not in a history
  MarginalHistory<T>* history_ = nullptr;
  const T* latest_ = nullptr;  // [N, stride] the latest marginals, if kept
  bool returns_scores_;
  std::unique_ptr<LabelPruning<T>> pruning_;  // nullptr: all labels, as the caller has them
  int num_updates_ = 0;                       // since the start
  std::vector<CompatibilityTable<T>> compatibility_;
  std::vector<std::unique_ptr<VertexRows<T>>> vertices_;
  std::unique_ptr<UpdateScratch<T>> scratch_;
};

// Rows of a unary as MeanField takes them: the padding's energy is above any label's, so that
// its marginals vanish.
template <typename T>
std::shared_ptr<const Buffer<T>> load_unary(const CrfModel<T>& model, NodeView<const T> unary,
                                            const std::vector<int32_t>& order = {});

// Mean field by the way that suits the model: two labels whose marginals need not be kept take
// half the work.
template <typename T>
std::shared_ptr<Field<T>> make_mean_field(std::shared_ptr<const CrfModel<T>> model,
                                          const std::vector<Compatibility<T>>& compatibility,
                                          NodeView<const T> unary, bool keeps_marginals,
                                          bool returns_scores, bool unary_may_change);

template <typename T>
struct InferenceOptions {
  int iterations = 10;
  double tolerance = 0;  // stop when no marginal changes by more; 0: never
  // Called before every update; throws to end the inference. Empty: not called.
  std::function<void()> interrupt;
  // Called after every update; false stops. May throw. Empty: not called.
  std::function<bool(Field<T>&)> after_update;
};

// Runs updates until one of the options says stop and stores the marginals; returns how many
// were made. Without iterations, and to stop early, the marginals must be kept.
template <typename T>
int run_inference(Field<T>& field, const InferenceOptions<T>& options, const ResultPlace<T>& place);

// The terms of KL divergence and energy, maths §2, at any marginals (one-hot for a labelling).
struct EnergyTerms {
  double negative_entropy = 0;  // sum of q log q
  double unary = 0;             // sum of q U
  double pairs = 0;             // sum over i, j of q_i A K_ij q_j, i = j included
  double self = 0;              // the part of `pairs` with i = j
};
template <typename T>
EnergyTerms energy_terms(const CrfModel<T>& model,
                         const std::vector<Compatibility<T>>& compatibility,
                         NodeView<const T> unary, NodeView<const T> marginals);

// out = K~ in for rows of `num_channels`, or K~^T in.
template <typename T>
void apply_kernel(const Backend<T>& backend, const LatticeKernel<T>& kernel, const T* in,
                  int64_t num_channels, bool transpose, T* out);
// The diagonal of K~, [N].
template <typename T>
Buffer<T> kernel_diagonal(Backend<T>& backend, const LatticeKernel<T>& kernel);

// The lattice of a point set as users of the engine see it; no normalisation.
template <typename T>
class PointLattice {
 public:
  // features: [N, d] as channels.
  PointLattice(Backend<T>& backend, NodeView<const T> features);

  const Lattice<T>& lattice() const { return *lattice_; }
  void splat(NodeView<const T> values, NodeView<T> vertices) const;
  void blur(NodeView<const T> in, bool reverse, NodeView<T> out) const;
  void slice(NodeView<const T> vertices, NodeView<T> values) const;  // scale of maths §4 included
  void filter(NodeView<const T> in, bool transpose, NodeView<T> out) const;
  void diagonal(T* out) const;
  // Gradients of sum(grad_out . filter(values)). grad_features is added to.
  void reverse(NodeView<const T> values, NodeView<const T> grad_out, NodeView<T> grad_values,
               NodeView<T> grad_features) const;

 private:
  Buffer<T> load(NodeView<const T> values) const;

  Backend<T>* backend_;
  std::shared_ptr<const NodeLayout> layout_;
  std::shared_ptr<const Lattice<T>> lattice_;
};

}  // namespace densefield
