// Mean field with window kernels, [TC18], maths §5. An update is one fused backend pass.
#include <limits>
#include <utility>

#include "compatibility_table.h"
#include "densefield/conv_crf.h"

namespace densefield {

template <typename T>
ConvField<T>::ConvField(std::shared_ptr<const ConvModel<T>> model,
                        const std::vector<Compatibility<T>>& compatibility, NodeView<const T> unary,
                        bool returns_scores)
    : model_(std::move(model)), num_labels_(unary.num_channels), returns_scores_(returns_scores) {
  Backend<T>& backend = model_->backend();
  const int64_t stride = backend.row_stride(num_labels_), num_nodes = model_->num_nodes();
  unary_ = Buffer<T>(backend.memory(), num_nodes * stride);
  if (returns_scores_) scores_ = Buffer<T>(backend.memory(), num_nodes * stride);
  marginals_ = MarginRows<T>(backend, num_nodes, model_->margin(), stride);
  updated_ = MarginRows<T>(backend, num_nodes, model_->margin(), stride);
  // The padding's energy is above any label's, so that its marginals vanish.
  backend.load_nodes(model_->layout(), unary, std::numeric_limits<T>::infinity(), unary_.data());
  for (const Compatibility<T>& entry : compatibility)
    compatibility_.push_back(make_compatibility_table(backend, entry, num_labels_));
  pass(false, true, false, nullptr);
}

template <typename T>
T ConvField<T>::pass(bool has_messages, bool keeps_marginals, bool wants_change,
                     const NodeView<T>* result) {
  WindowPass<T> arguments{};
  arguments.layout = &model_->layout();
  arguments.num_labels = num_labels_;
  if (has_messages) {
    arguments.kernels = model_->tables();
    arguments.compatibility = compatibility_;
    arguments.self = model_->self();
  }
  arguments.unary = unary_.data();
  arguments.marginals = marginals_.data();
  arguments.updated = keeps_marginals ? updated_.data() : nullptr;
  arguments.scores = has_messages ? scores_.data() : nullptr;
  arguments.wants_change = wants_change;
  arguments.result = result;
  const T change = model_->backend().window_pass(arguments);
  if (keeps_marginals) std::swap(marginals_, updated_);
  has_scores_ = has_messages && returns_scores_;
  return change;
}

template <typename T>
T ConvField<T>::update(bool wants_change) {
  return pass(true, true, wants_change, nullptr);
}

template <typename T>
void ConvField<T>::finish(NodeView<T> to) {
  updated_ = MarginRows<T>();  // nobody asks for the last marginals but the caller
  pass(true, false, false, returns_scores_ ? nullptr : &to);
  if (returns_scores_) store_result(to);
}

template <typename T>
void ConvField<T>::store_marginals(NodeView<T> to) const {
  model_->backend().store_nodes(model_->layout(), marginals_.data(), to);
}

template <typename T>
void ConvField<T>::store_result(NodeView<T> to) const {
  const T* rows = has_scores_ ? scores_.data() : marginals_.data();
  model_->backend().store_nodes(model_->layout(), rows, to);
}

template <typename T>
void ConvField<T>::load_marginals(NodeView<const T> from) {
  model_->backend().load_nodes(model_->layout(), from, T(0), marginals_.data());
  has_scores_ = false;
}

template class ConvField<float>;
template class ConvField<double>;

}  // namespace densefield
