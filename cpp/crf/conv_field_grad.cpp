// The reverse pass of mean field with window kernels, maths §5 and §6. Messages go back through
// K~^T; what they say of the weights is summed over the updates and brought to features and
// standard deviations once, because that step is linear.
#include <limits>
#include <utility>

#include "compatibility_table.h"
#include "densefield/conv_crf_grad.h"
#include "densefield/error.h"

namespace densefield {

template <typename T>
void reverse_terms(const Backend<T>& backend, const WindowTable<T>& table,
                   WindowGradient<T>& gradient, std::vector<ConvTermGradient<T>>& terms) {
  std::vector<WindowTermGradient<T>> arguments;
  for (ConvTermGradient<T>& term : terms) {
    const Features<T>& features = term.term->features;
    const size_t axes = features.sigma_position.size();
    term.sigma.assign(axes + features.sigma_value.size(), 0.0);
    arguments.push_back(
        {term.term, term.values, term.sigma.data(), term.sigma.data() + axes, &term.weight});
  }
  backend.window_term_gradients(table, gradient, arguments);
}

template <typename T>
void reverse_apply(const ConvModel<T>& model, size_t group, NodeView<const T> in,
                   NodeView<const T> grad_out, NodeView<T> grad_in,
                   std::vector<ConvTermGradient<T>>& terms) {
  Backend<T>& backend = model.backend();
  const WindowTable<T>& table = *model.tables()[group];
  const int64_t stride = backend.row_stride(in.num_channels), num_nodes = model.num_nodes();
  MarginRows<T> values(backend, num_nodes, model.margin(), stride);
  MarginRows<T> grad(backend, num_nodes, model.margin(), stride);
  backend.load_nodes(model.layout(), in, T(0), values.data());
  backend.load_nodes(model.layout(), grad_out, T(0), grad.data());
  const auto gradient = backend.make_window_gradient(table, in.num_channels, false);
  backend.add_window_gradient(table, values.data(), grad.data(), nullptr, in.num_channels, false,
                              *gradient);
  reverse_terms(backend, table, *gradient, terms);
  Buffer<T> filtered(backend.memory(), num_nodes * stride);
  backend.apply_window(table, grad.data(), in.num_channels, true, filtered.data());
  backend.store_nodes(model.layout(), filtered.data(), grad_in);
}

template <typename T>
RecordedConvInference<T>::RecordedConvInference(std::shared_ptr<const ConvModel<T>> model,
                                                std::vector<Compatibility<T>> compatibility,
                                                NodeView<const T> unary, NodeView<const T> start,
                                                bool returns_scores, int interval)
    : model_(std::move(model)),
      compatibility_(std::move(compatibility)),
      num_labels_(unary.num_channels),
      has_start_(start.data != nullptr),
      returns_scores_(returns_scores),
      interval_(interval) {
  Backend<T>& backend = model_->backend();
  const int64_t size = model_->num_nodes() * backend.row_stride(num_labels_);
  unary_ = Buffer<T>(backend.memory(), size);
  if (returns_scores_) scores_ = Buffer<T>(backend.memory(), size);
  // The padding's energy is above any label's, so that its marginals vanish.
  backend.load_nodes(model_->layout(), unary, std::numeric_limits<T>::infinity(), unary_.data());
  for (const Compatibility<T>& entry : compatibility_)
    tables_.push_back(make_compatibility_table(backend, entry, num_labels_));
  scratch_ = make_scratch(*model_, num_labels_);
  MarginRows<T>& first = next();
  if (has_start_) {
    backend.load_nodes(model_->layout(), start, T(0), first.data());
    return;
  }
  ConvUpdate<T> update{};
  update.num_labels = num_labels_;
  update.unary = unary_.data();
  update.marginals = update.updated = first.data();
  update.keeps_updated = true;
  update.scratch = scratch_.get();
  run_update(*model_, update);
}

template <typename T>
MarginRows<T> RecordedConvInference<T>::new_rows() const {
  Backend<T>& backend = model_->backend();
  return MarginRows<T>(backend, model_->num_nodes(), model_->margin(),
                       backend.row_stride(num_labels_));
}

// Where the next marginals go; the latest are somewhere else.
template <typename T>
MarginRows<T>& RecordedConvInference<T>::next() {
  const int index = num_stored_++;
  if (keeps(index)) return kept_.emplace_back(new_rows());
  MarginRows<T>& rows = passing_[index % 2];
  if (rows.num_bytes() == 0) rows = new_rows();
  return rows;
}

template <typename T>
T RecordedConvInference<T>::update(bool wants_change) {
  // Room for the new marginals may move the rows' owners, not the rows.
  const T* latest = stored(num_stored_ - 1).data();
  ConvUpdate<T> update{};
  update.compatibility = tables_;
  update.num_labels = num_labels_;
  update.unary = unary_.data();
  update.marginals = latest;
  update.updated = next().data();
  update.keeps_updated = true;
  update.scores = scores_.data();
  update.wants_change = wants_change;
  update.scratch = scratch_.get();
  return run_update(*model_, update);
}

template <typename T>
void RecordedConvInference<T>::finish(const ResultPlace<T>& place) {
  update(false);
  store_result(place());
}

template <typename T>
void RecordedConvInference<T>::store_marginals(NodeView<T> to) const {
  model_->backend().store_nodes(model_->layout(), stored(num_stored_ - 1).data(), to);
}

template <typename T>
void RecordedConvInference<T>::store_result(NodeView<T> to) {
  scratch_.reset();
  if (!returns_scores_ || num_updates() == 0) return store_marginals(to);
  model_->backend().store_nodes(model_->layout(), scores_.data(), to);
}

template <typename T>
void RecordedConvInference<T>::load_marginals(NodeView<const T>) {
  throw Error(Error::Kind::runtime, "a recorded inference starts where it was told to at first");
}

template <typename T>
int64_t RecordedConvInference<T>::num_bytes() const {
  int64_t total = unary_.num_bytes() + scores_.num_bytes();
  for (const MarginRows<T>& rows : kept_) total += rows.num_bytes();
  return total + passing_[0].num_bytes() + passing_[1].num_bytes();
}

// Reads the marginals backwards, computing again what was not kept: the same functions of the
// same numbers, so the same bits.
template <typename T>
class RecordedConvInference<T>::Reader {
 public:
  explicit Reader(const RecordedConvInference& inference) : inference_(inference) {
    const int num_missing = most_missing(inference.interval_, inference.num_stored_);
    if (num_missing > 0) scratch_ = make_scratch(*inference.model_, inference.num_labels_);
    for (int i = 0; i < num_missing; ++i) again_.push_back(inference.new_rows());
  }

  // To be asked for falling indices.
  const T* marginals(int index) {
    if (inference_.keeps(index) || index + 1 == inference_.num_stored_)
      return inference_.stored(index).data();
    const int start = index / inference_.interval_ * inference_.interval_;
    if (start != start_) {
      start_ = start;
      for (int i = start + 1; i <= index; ++i) compute(i);
    }
    return again_[static_cast<size_t>(index - start_ - 1)].data();
  }

 private:
  void compute(int index) {
    const auto place = static_cast<size_t>(index - start_ - 1);
    ConvUpdate<T> update{};
    update.compatibility = inference_.tables_;
    update.num_labels = inference_.num_labels_;
    update.unary = inference_.unary_.data();
    update.marginals = place == 0 ? inference_.stored(start_).data() : again_[place - 1].data();
    update.updated = again_[place].data();
    update.keeps_updated = true;
    update.scratch = scratch_.get();
    run_update(*inference_.model_, update);
  }

  const RecordedConvInference& inference_;
  std::unique_ptr<UpdateScratch<T>> scratch_;
  std::vector<MarginRows<T>> again_;  // the marginals behind number start_
  int start_ = -1;
};

namespace {

// One group on its way back.
template <typename T>
struct GroupReverse {
  GroupReverse(Backend<T>& backend, const ConvModel<T>& model, size_t group,
               const Compatibility<T>& compatibility, int64_t num_labels, bool wants_terms)
      : table(model.tables()[group].get()),
        self(model.self().empty() ? nullptr : model.self()[group].data()),
        transposed_table(
            make_compatibility_table(backend, transposed(compatibility, num_labels), num_labels)),
        filtered(backend.memory(), model.num_nodes() * backend.row_stride(num_labels)),
        grad_compatibility(static_cast<size_t>(transposed_table.values.size()), 0.0) {
    if (wants_terms) gradient = backend.make_window_gradient(*table, num_labels, self != nullptr);
  }

  // The same for all passes.
  WindowReverseKernel<T> argument() {
    return {table, self, &transposed_table, filtered.data(), grad_compatibility.data()};
  }

  // Before the pass of an update of marginals q: what their messages say of the weights.
  void add_gradient(const Backend<T>& backend, const T* q, const T* grad_scores,
                    int64_t num_labels) {
    if (gradient)
      backend.add_window_gradient(*table, q, grad_scores, &transposed_table, num_labels,
                                  self != nullptr, *gradient);
  }

  void finish(const Backend<T>& backend, int64_t num_labels, ConvGroupGradient<T>& out) {
    out.compatibility = without_padding(grad_compatibility, transposed_table.form, num_labels,
                                        backend.row_stride(num_labels));
    if (gradient) reverse_terms(backend, *table, *gradient, out.terms);
  }

  const WindowTable<T>* table;
  const T* self;
  CompatibilityTable<T> transposed_table;
  Buffer<T> filtered;  // [N, stride]
  std::vector<double> grad_compatibility;
  std::unique_ptr<WindowGradient<T>> gradient;  // where terms are wanted
};

}  // namespace

template <typename T>
void RecordedConvInference<T>::reverse(NodeView<const T> grad_result, NodeView<T> grad_unary,
                                       NodeView<T> grad_start,
                                       std::vector<ConvGroupGradient<T>>& groups,
                                       const std::function<void()>& interrupt) const {
  Backend<T>& backend = model_->backend();
  const NodeLayout& layout = model_->layout();
  const int64_t size = model_->num_nodes() * backend.row_stride(num_labels_);
  MarginRows<T> grad = new_rows();
  Buffer<T> unary_rows(backend.memory(), size);
  backend.load_nodes(layout, grad_result, T(0), grad.data());
  std::vector<GroupReverse<T>> parts;
  for (size_t g = 0; g < groups.size(); ++g)
    parts.emplace_back(backend, *model_, g, compatibility_[g], num_labels_,
                       !groups[g].terms.empty());
  std::vector<WindowReverseKernel<T>> kernels;
  for (GroupReverse<T>& part : parts) kernels.push_back(part.argument());
  const auto scratch = backend.make_window_reverse_scratch(layout, num_labels_, kernels);

  Reader reader(*this);
  WindowReversePass<T> pass{};
  pass.layout = &layout;
  pass.num_labels = num_labels_;
  pass.grad_scores = grad.data();
  pass.grad_unary = unary_rows.data();
  pass.scratch = scratch.get();
  if (returns_scores_ && num_updates() > 0) {
    // The result is the last scores, -U and more.
    backend.fill(T(-1), size, unary_rows.data());
    backend.multiply(unary_rows.data(), grad.data(), size, unary_rows.data());
  } else {
    backend.fill(T(0), size, unary_rows.data());
    pass.has_softmax = num_updates() > 0 || !has_start_;
    pass.marginals = stored(num_updates()).data();
    backend.window_reverse_pass(pass);
  }
  pass.kernels = kernels;
  for (int index = num_updates() - 1; index >= 0; --index) {
    if (interrupt) interrupt();
    pass.marginals = reader.marginals(index);
    pass.has_softmax = index > 0 || !has_start_;
    for (GroupReverse<T>& part : parts)
      part.add_gradient(backend, pass.marginals, grad.data(), num_labels_);
    backend.window_reverse_pass(pass);
  }
  if (grad_unary.data != nullptr) backend.store_nodes(layout, unary_rows.data(), grad_unary);
  if (grad_start.data != nullptr) backend.store_nodes(layout, grad.data(), grad_start);
  for (size_t g = 0; g < parts.size(); ++g) parts[g].finish(backend, num_labels_, groups[g]);
}

#define DF_INSTANTIATE(T)                                                                        \
  template void reverse_terms(const Backend<T>&, const WindowTable<T>&, WindowGradient<T>&,      \
                              std::vector<ConvTermGradient<T>>&);                                \
  template void reverse_apply(const ConvModel<T>&, size_t, NodeView<const T>, NodeView<const T>, \
                              NodeView<T>, std::vector<ConvTermGradient<T>>&);                   \
  template class RecordedConvInference<T>;
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield
