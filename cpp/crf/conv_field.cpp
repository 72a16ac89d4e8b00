// Mean field with window kernels, [TC18], maths §5. An update is one fused backend pass.
#include <limits>
#include <utility>

#include "compatibility_table.h"
#include "densefield/conv_crf.h"

namespace densefield {

template <typename T>
std::unique_ptr<UpdateScratch<T>> make_scratch(const ConvModel<T>& model, int64_t num_labels) {
  return model.backend().make_window_scratch(model.tables(), model.layout(), num_labels);
}

template <typename T>
T run_update(const ConvModel<T>& model, const ConvUpdate<T>& update) {
  WindowPass<T> pass{};
  pass.layout = &model.layout();
  pass.num_labels = update.num_labels;
  if (!update.compatibility.empty()) {
    pass.kernels = model.tables();
    pass.compatibility = update.compatibility;
    pass.self = model.self();
  }
  pass.unary = update.unary;
  pass.unary_nodes = update.unary_nodes;
  pass.marginals = update.marginals;
  pass.updated = update.updated;
  pass.keeps_updated = update.keeps_updated;
  pass.scores = update.scores;
  pass.wants_change = update.wants_change;
  pass.result = update.result;
  pass.scratch = update.scratch;
  return model.backend().window_pass(pass);
}

template <typename T>
ConvField<T>::ConvField(std::shared_ptr<const ConvModel<T>> model,
                        const std::vector<Compatibility<T>>& compatibility, NodeView<const T> unary,
                        bool returns_scores, bool copies_unary)
    : model_(std::move(model)),
      num_labels_(unary.num_channels),
      returns_scores_(returns_scores),
      unary_nodes_(unary) {
  Backend<T>& backend = model_->backend();
  const int64_t stride = backend.row_stride(num_labels_), num_nodes = model_->num_nodes();
  if (returns_scores_) scores_ = Buffer<T>(backend.memory(), num_nodes * stride);
  marginals_ = MarginRows<T>(backend, num_nodes, model_->margin(), stride);
  updated_ = MarginRows<T>(backend, num_nodes, model_->margin(), stride);
  if (copies_unary || !backend.uses_nodes()) {
    unary_ = Buffer<T>(backend.memory(), num_nodes * stride);
    // The padding's energy is above any label's, so that its marginals vanish.
    backend.load_nodes(model_->layout(), unary, std::numeric_limits<T>::infinity(), unary_.data());
  }
  for (const Compatibility<T>& entry : compatibility)
    compatibility_.push_back(make_compatibility_table(backend, entry, num_labels_));
  scratch_ = make_scratch(*model_, num_labels_);
  pass(false, true, false, nullptr);
}

template <typename T>
T ConvField<T>::pass(bool has_messages, bool keeps_marginals, bool wants_change,
                     const NodeView<T>* result) {
  ConvUpdate<T> update{};
  if (has_messages) update.compatibility = compatibility_;
  update.num_labels = num_labels_;
  update.unary = unary_.data();
  update.unary_nodes = unary_nodes_;
  update.marginals = marginals_.data();
  update.updated = updated_.data();
  update.keeps_updated = keeps_marginals;
  update.scores = has_messages ? scores_.data() : nullptr;
  update.wants_change = wants_change;
  update.result = result;
  update.scratch = scratch_.get();
  const T change = run_update(*model_, update);
  if (keeps_marginals) std::swap(marginals_, updated_);
  has_scores_ = has_messages && returns_scores_;
  return change;
}

template <typename T>
T ConvField<T>::update(bool wants_change) {
  return pass(true, true, wants_change, nullptr);
}

template <typename T>
void ConvField<T>::finish(const ResultPlace<T>& place) {
  // Nobody asks for the last marginals but the caller.
  if (model_->backend().uses_nodes()) updated_ = MarginRows<T>();
  const NodeView<T> to = place();
  pass(true, false, false, returns_scores_ ? nullptr : &to);
  if (returns_scores_) store_result(to);
}

template <typename T>
void ConvField<T>::store_marginals(NodeView<T> to) const {
  model_->backend().store_nodes(model_->layout(), marginals_.data(), to);
}

template <typename T>
void ConvField<T>::store_result(NodeView<T> to) {
  const T* rows = has_scores_ ? scores_.data() : marginals_.data();
  model_->backend().store_nodes(model_->layout(), rows, to);
}

template <typename T>
void ConvField<T>::load_marginals(NodeView<const T> from) {
  model_->backend().load_nodes(model_->layout(), from, T(0), marginals_.data());
  has_scores_ = false;
}

template std::unique_ptr<UpdateScratch<float>> make_scratch(const ConvModel<float>&, int64_t);
template std::unique_ptr<UpdateScratch<double>> make_scratch(const ConvModel<double>&, int64_t);
template float run_update(const ConvModel<float>&, const ConvUpdate<float>&);
template double run_update(const ConvModel<double>&, const ConvUpdate<double>&);
template class ConvField<float>;
template class ConvField<double>;

}  // namespace densefield
