// The reverse pass of mean field, maths §6. Every update backwards is one fused backend pass
// over the nodes; what the kernels themselves need is gathered on the way and brought to
// their features at the end, because that step is linear.
#include "kernel_grad.h"

namespace densefield {

template <typename T>
T* MarginalHistory<T>::next(Memory& memory) {
  const int index = num_stored_;
  if (!keeps(index)) {
    if (passing_.is_empty()) passing_ = Buffer<T>(memory, rows_size_);
    ++num_stored_;
    return passing_.data();
  }
  const auto place = static_cast<size_t>(index / interval_);
  if (place == kept_.size()) kept_.emplace_back(memory, rows_size_);
  ++num_stored_;
  return kept_[place].data();
}

template <typename T>
void MarginalHistory<T>::reserve(Memory& memory, int count) {
  while (kept_.size() < static_cast<size_t>(count)) kept_.emplace_back(memory, rows_size_);
}

template <typename T>
int64_t MarginalHistory<T>::num_bytes() const {
  int64_t total = passing_.num_bytes();
  for (const Buffer<T>& rows : kept_) total += rows.num_bytes();
  return total;
}

namespace {

// Reads a history backwards, computing again what was not kept. The updates are the same
// functions of the same numbers, so the marginals are the same bits.
template <typename T>
class HistoryReader {
 public:
  HistoryReader(std::shared_ptr<const CrfModel<T>> model,
                const std::vector<Compatibility<T>>& compatibility, int64_t num_labels,
                std::shared_ptr<const Buffer<T>> unary, const MarginalHistory<T>& history)
      : history_(history), again_(1, model->num_nodes() * model->backend().row_stride(num_labels)) {
    const int num_missing = most_missing(history.interval(), history.num_stored());
    if (num_missing == 0) return;
    again_.reserve(model->backend().memory(), num_missing);
    field_ = std::make_unique<MeanField<T>>(std::move(model), compatibility, num_labels,
                                            std::move(unary), &again_);
  }

  // To be asked for falling indices.
  const T* marginals(int index) {
    if (index + 1 == history_.num_stored()) return history_.latest();
    if (history_.keeps(index)) return history_.kept(index);
    const int kept = index / history_.interval() * history_.interval();
    if (kept != start_) {
      start_ = kept;
      again_.restart();
      field_->start_at(history_.kept(kept));
      for (int i = kept + 1; i <= index; ++i) field_->update(false);
    }
    return again_.kept(index - kept - 1);
  }

 private:
  const MarginalHistory<T>& history_;
  MarginalHistory<T> again_;             // the marginals behind number start_
  std::unique_ptr<MeanField<T>> field_;  // which fills it, where any are missing
  int start_ = -1;
};

}  // namespace

template <typename T>
RecordedInference<T>::RecordedInference(std::shared_ptr<const CrfModel<T>> model,
                                        std::vector<Compatibility<T>> compatibility,
                                        NodeView<const T> unary, int interval, bool returns_scores)
    : model_(std::move(model)),
      compatibility_(std::move(compatibility)),
      num_labels_(unary.num_channels),
      returns_scores_(returns_scores),
      unary_(load_unary(*model_, unary)),
      history_(interval, unary_->size()) {}

template <typename T>
int RecordedInference<T>::run(const InferenceOptions<T>& options, NodeView<T> out) {
  MeanField<T> field(model_, compatibility_, num_labels_, unary_, &history_, returns_scores_);
  field.start();
  const int num_updates = run_inference<T>(field, options, [&] { return out; });
  if (history_.interval() == 1) unary_.reset();
  return num_updates;
}

template <typename T>
int64_t RecordedInference<T>::num_bytes() const {
  return history_.num_bytes() + (unary_ ? unary_->num_bytes() : 0);
}

template <typename T>
void RecordedInference<T>::reverse(NodeView<const T> grad_marginals, NodeView<T> grad_unary,
                                   std::vector<KernelGradient<T>>& kernels,
                                   const std::function<void()>& interrupt) const {
  Backend<T>& backend = model_->backend();
  const int64_t size = model_->num_nodes() * backend.row_stride(num_labels_);
  Buffer<T> grad_scores(backend.memory(), size), grad_unary_rows(backend.memory(), size);
  backend.load_nodes(model_->layout(), grad_marginals, T(0), grad_scores.data());
  backend.fill(T(0), size, grad_unary_rows.data());

  std::vector<KernelReverse<T>> parts;
  parts.reserve(kernels.size());
  for (size_t m = 0; m < kernels.size(); ++m)
    parts.emplace_back(backend, model_->kernels()[m], compatibility_[m], num_labels_,
                       kernels[m].wants_kernel());
  std::vector<ReverseKernel<T>> arguments;
  for (KernelReverse<T>& part : parts) arguments.push_back(part.argument());
  const auto scratch = backend.make_reverse_scratch(model_->layout(), num_labels_, arguments);

  HistoryReader<T> history(model_, compatibility_, num_labels_, unary_, history_);
  MeanFieldReversePass<T> pass{};
  pass.layout = &model_->layout();
  pass.num_labels = num_labels_;
  pass.kernels = arguments;
  pass.grad_scores = grad_scores.data();
  pass.grad_unary = grad_unary_rows.data();
  pass.scratch = scratch.get();
  for (int index = history_.num_stored() - 1; index >= 0; --index) {
    if (interrupt) interrupt();
    pass.marginals = history.marginals(index);
    pass.has_messages = index + 1 < history_.num_stored();
    pass.of_scores = returns_scores_ && !pass.has_messages;
    pass.splats = index > 0;
    if (pass.has_messages)
      for (KernelReverse<T>& part : parts) part.blur(pass.marginals, scratch.get());
    backend.mean_field_reverse_pass(pass);
  }
  if (grad_unary.data != nullptr)
    backend.store_nodes(model_->layout(), grad_unary_rows.data(), grad_unary);
  for (size_t m = 0; m < kernels.size(); ++m) parts[m].finish(kernels[m], scratch.get());
}

#define DF_INSTANTIATE(T)            \
  template class MarginalHistory<T>; \
  template class RecordedInference<T>;
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield
