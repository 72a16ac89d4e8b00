// Mean field, [KK11] Algorithm 1; maths §2. All work on nodes is one fused backend pass;
// between passes only the vertices of the lattices are touched.
#include <limits>
#include <utility>

#include "compatibility_table.h"
#include "densefield/crf_grad.h"
#include "densefield/error.h"
#include "label_pruning.h"

namespace densefield {
namespace {

// Bytes from which on the last update reads the caller's array again, and the result takes the
// memory of the unary's rows. That update takes a tenth longer.
constexpr int64_t kLargeUnary = int64_t{1} << 26;

}  // namespace

template <typename T>
std::shared_ptr<const Buffer<T>> load_unary(const CrfModel<T>& model, NodeView<const T> unary,
                                            const std::vector<int32_t>& order) {
  Backend<T>& backend = model.backend();
  auto rows = std::make_shared<Buffer<T>>(
      backend.memory(), model.num_nodes() * backend.row_stride(unary.num_channels));
  constexpr T kPadding = std::numeric_limits<T>::infinity();
  if (order.empty())
    backend.load_nodes(model.layout(), unary, kPadding, rows->data());
  else
    backend.label_pruner()->load_nodes(model.layout(), unary, kPadding, order, rows->data());
  return rows;
}

template <typename T>
MeanField<T>::~MeanField() = default;

template <typename T>
int64_t MeanField<T>::num_active_labels() const {
  return pruning_ ? pruning_->num_active() : num_labels_;
}

template <typename T>
std::vector<int32_t> MeanField<T>::label_order() const {
  return pruning_ ? pruning_->order() : std::vector<int32_t>();
}

template <typename T>
MeanField<T>::MeanField(std::shared_ptr<const CrfModel<T>> model,
                        const std::vector<Compatibility<T>>& compatibility, NodeView<const T> unary,
                        bool keeps_marginals, bool returns_scores, bool unary_may_change)
    : model_(std::move(model)), num_labels_(unary.num_channels), returns_scores_(returns_scores) {
  Backend<T>& backend = model_->backend();
  if (!keeps_marginals && !returns_scores)
    pruning_ = LabelPruning<T>::make(*model_, compatibility, unary);
  unary_ = load_unary(*model_, unary, label_order());
  if (keeps_marginals || model_->excludes_self())
    marginals_ = Buffer<T>(backend.memory(), unary_->size());
  if (backend.uses_nodes() && !unary_may_change && unary_->num_bytes() >= kLargeUnary)
    unary_nodes_ = unary;
  prepare_updates(compatibility);
  start();
}

template <typename T>
MeanField<T>::MeanField(std::shared_ptr<const CrfModel<T>> model,
                        const std::vector<Compatibility<T>>& compatibility, int64_t num_labels,
                        std::shared_ptr<const Buffer<T>> unary, MarginalHistory<T>* history,
                        bool returns_scores)
    : model_(std::move(model)),
      num_labels_(num_labels),
      unary_(std::move(unary)),
      history_(history),
      returns_scores_(returns_scores) {
  prepare_updates(compatibility);
}

template <typename T>
void MeanField<T>::prepare_updates(const std::vector<Compatibility<T>>& compatibility) {
  Backend<T>& backend = model_->backend();
  for (const Compatibility<T>& each : compatibility)
    compatibility_.push_back(make_compatibility_table(backend, each, num_labels_, label_order()));
  make_vertices();
  scratch_ = backend.make_update_scratch(model_->layout(), num_labels_, vertices_.size(),
                                         history_ != nullptr || !marginals_.is_empty());
}

template <typename T>
void MeanField<T>::make_vertices() {
  vertices_.clear();
  for (const LatticeKernel<T>& kernel : model_->kernels())
    vertices_.push_back(model_->backend().make_vertex_rows(*kernel.lattice, num_active_labels()));
}

template <typename T>
void MeanField<T>::start() {
  pass(false, true, false, nullptr);
}

template <typename T>
void MeanField<T>::start_at(const T* marginals) {
  latest_ = marginals;
  for (size_t m = 0; m < vertices_.size(); ++m) {
    const LatticeKernel<T>& kernel = model_->kernels()[m];
    model_->backend().splat(*kernel.lattice, latest_, kernel.pre.data(), *vertices_[m]);
  }
  can_continue_ = true;
}

template <typename T>
T MeanField<T>::pass(bool has_messages, bool splats, bool wants_change, const NodeView<T>* result) {
  MeanFieldPass<T> arguments{};
  arguments.layout = &model_->layout();
  arguments.num_labels = num_labels_;
  arguments.kernels = model_->kernels();
  arguments.compatibility = compatibility_;
  arguments.vertices = vertices_;
  arguments.has_messages = has_messages;
  arguments.splats = splats;
  arguments.unary = unary_ ? unary_->data() : nullptr;
  arguments.unary_nodes = unary_nodes_;
  arguments.previous = latest_;
  arguments.marginals =
      history_ != nullptr ? history_->next(model_->backend().memory()) : marginals_.data();
  arguments.wants_change = wants_change;
  arguments.result = result;
  arguments.wants_scores = result != nullptr && returns_scores_;
  arguments.scratch = scratch_.get();
  PassLabels<T> labels{};
  if (pruning_) {
    labels = pruning_->pass_labels(has_messages);
    arguments.labels = &labels;
  }
  const T change = model_->backend().mean_field_pass(arguments);
  latest_ = arguments.marginals;
  return change;
}

template <typename T>
void MeanField<T>::blur_messages() {
  if (!can_continue_)
    throw Error(Error::Kind::runtime,
                "no update can follow the last one, or one that failed; start a new inference");
  can_continue_ = false;
  blur_vertices();
}

template <typename T>
void MeanField<T>::blur_vertices() {
  model_->backend().blur_messages(model_->kernels(), vertices_);
}

template <typename T>
T MeanField<T>::update(bool wants_change) {
  blur_messages();
  const T change = pass(true, true, wants_change, nullptr);
  ++num_updates_;
  if (pruning_) follow_labels();
  can_continue_ = true;
  return change;
}

// After an update: fewer labels from now on, or all again.
template <typename T>
void MeanField<T>::follow_labels() {
  if (pruning_->needs_all()) return start_with_all_labels();
  const int64_t num_needed = pruning_->num_needed();
  if (num_needed == pruning_->num_active()) return;
  pruning_->leave_out_after(num_needed);
  for (size_t m = 0; m < vertices_.size(); ++m)
    model_->backend().label_pruner()->narrow(*model_->kernels()[m].lattice, num_needed,
                                             *vertices_[m]);
}

// A label that was left out has become likely: all updates again, with all labels.
template <typename T>
void MeanField<T>::start_with_all_labels() {
  pruning_->take_all();
  if (!unary_) unary_ = load_unary(*model_, unary_nodes_, label_order());
  make_vertices();
  start();
  for (int update = 0; update < num_updates_; ++update) {
    blur_vertices();
    pass(true, true, false, nullptr);
  }
}

template <typename T>
void MeanField<T>::finish(const ResultPlace<T>& place) {
  blur_messages();
  if (unary_nodes_.data != nullptr) unary_.reset();
  const NodeView<T> to = place();
  pass(true, false, false, &to);
  if (!pruning_ || !pruning_->needs_all()) return;
  start_with_all_labels();
  blur_vertices();
  pass(true, false, false, &to);
}

template <typename T>
void MeanField<T>::store_marginals(NodeView<T> to) const {
  model_->backend().store_nodes(model_->layout(), latest_, to);
}

template <typename T>
void MeanField<T>::load_marginals(NodeView<const T> from) {
  Backend<T>& backend = model_->backend();
  backend.load_nodes(model_->layout(), from, T(0), marginals_.data());
  start_at(marginals_.data());
}

template std::shared_ptr<const Buffer<float>> load_unary(const CrfModel<float>&,
                                                         NodeView<const float>,
                                                         const std::vector<int32_t>&);
template std::shared_ptr<const Buffer<double>> load_unary(const CrfModel<double>&,
                                                          NodeView<const double>,
                                                          const std::vector<int32_t>&);
template class MeanField<float>;
template class MeanField<double>;

}  // namespace densefield
