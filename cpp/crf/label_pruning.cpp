#include "label_pruning.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace densefield {
namespace {

// What leaving out messages may change of a marginal in one update, at most: at a node where the
// labels left out hold as much as they may. Measured on photographs: 1e-6 after ten updates.
constexpr double kMostChange = 1.0 / 16384;
// Labels are left out where they hold so many times less than they may: those that are just below
// are above soon, and then all has to be done again.
constexpr int kSlack = 2;
// Messages beyond this could make a softmax of the labels that stay vanish beside the unary's.
constexpr double kLargestMessage = 40;

// The most that the messages of all kernels can be for a label whose marginals are one
// everywhere, or a negative number where that is not known.
template <typename T>
double largest_message(const CrfModel<T>& model,
                       const std::vector<Compatibility<T>>& compatibility) {
  double sum = 0;
  for (size_t m = 0; m < compatibility.size(); ++m) {
    // A matrix lets a label's messages change others; without normalisation they have any size.
    if (compatibility[m].form == CompatibilityForm::matrix) return -1;
    if (model.kernels()[m].normalization == Normalization::none) return -1;
    double largest = 0;
    for (const T value : compatibility[m].values)
      largest = std::max(largest, std::abs(static_cast<double>(value)));
    sum += largest;
  }
  return sum;
}

}  // namespace

template <typename T>
LabelPruning<T>::LabelPruning(const CrfModel<T>& model, std::vector<int32_t> order, T limit)
    : model_(&model),
      order_(std::move(order)),
      limit_(limit),
      num_active_(static_cast<int64_t>(order_.size())),
      plane_(model.num_nodes() + model.backend().row_stride(1)) {
  const Backend<T>& backend = model.backend();
  const int64_t groups = backend.row_stride(num_active_) / backend.row_stride(1);
  term_ = Buffer<T>(model.backend().memory(), groups * plane_);
}

template <typename T>
std::unique_ptr<LabelPruning<T>> LabelPruning<T>::make(
    const CrfModel<T>& model, const std::vector<Compatibility<T>>& compatibility,
    NodeView<const T> unary) {
  // Who asks for double precision wants every digit.
  if (!std::is_same_v<T, float> || model.excludes_self()) return nullptr;
  const Backend<T>& backend = model.backend();
  const LabelPruner<T>* pruner = backend.label_pruner();
  if (pruner == nullptr || unary.num_channels <= backend.row_stride(1)) return nullptr;
  const double message = largest_message(model, compatibility);
  if (!(message >= 0 && message <= kLargestMessage)) return nullptr;
  // Without messages below message p, marginals that sum to p change by less than message p^2.
  const double limit = std::sqrt(kMostChange / std::max(message, 1.0));
  return std::unique_ptr<LabelPruning>(
      new LabelPruning(model, pruner->order(unary), static_cast<T>(limit)));
}

template <typename T>
PassLabels<T> LabelPruning<T>::pass_labels(bool has_messages) {
  return {order_.data(), num_active_, may_prune_ ? term_.data() : nullptr, plane_,
          may_prune_ && has_messages ? &share_ : nullptr};
}

template <typename T>
bool LabelPruning<T>::needs_all() const {
  // Written so that NaN is too much.
  return may_prune_ && !(share_[0] <= limit_);
}

template <typename T>
int64_t LabelPruning<T>::num_needed() const {
  if (!may_prune_) return num_active_;
  const T most = limit_ / kSlack;
  T rest = share_[0];
  auto groups = static_cast<int64_t>(share_.size());
  while (groups > 1 && rest + share_[static_cast<size_t>(groups - 1)] <= most)
    rest += share_[static_cast<size_t>(--groups)];
  return std::min(groups * model_->backend().row_stride(1), num_active_);
}

template <typename T>
void LabelPruning<T>::take_all() {
  num_active_ = static_cast<int64_t>(order_.size());
  may_prune_ = false;
  term_ = Buffer<T>();
}

template class LabelPruning<float>;
template class LabelPruning<double>;

}  // namespace densefield
