// Gradients of ConvCRF inference above any backend, maths §5 and §6.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "densefield/conv_crf.h"
#include "densefield/crf_grad.h"
#include "densefield/window_reverse.h"

namespace densefield {

// Gradients of one term of a table: what it was built from, and where its gradients go.
template <typename T>
struct ConvTermGradient {
  const WindowTerm<T>* term = nullptr;
  NodeView<T> values = {};    // by its features' values, added to; data may be nullptr
  std::vector<double> sigma;  // out: positions x, y, .. then values
  double weight = 0;          // out
};

template <typename T>
struct ConvGroupGradient {
  std::vector<ConvTermGradient<T>> terms;  // all of the group, or none: not wanted
  std::vector<double> compatibility;       // out: by A, [1], [L] or [L, L]
};

// Brings the gradient by a table's weights to its terms.
template <typename T>
void reverse_terms(const Backend<T>& backend, const WindowTable<T>& table,
                   WindowGradient<T>& gradient, std::vector<ConvTermGradient<T>>& terms);

// Gradients of sum(grad_out . K~ in) for one group of a model; grad_in is written.
template <typename T>
void reverse_apply(const ConvModel<T>& model, size_t group, NodeView<const T> in,
                   NodeView<const T> grad_out, NodeView<T> grad_in,
                   std::vector<ConvTermGradient<T>>& terms);

// An inference that can be differentiated: it remembers its marginals, those of every
// `interval`-th update, from which the others can be computed again, and the latest.
template <typename T>
class RecordedConvInference final : public Field<T> {
 public:
  // One compatibility for each group of the model. `start`: what the first message is computed
  // of; without data, the softmax of the unary. `returns_scores`: as for ConvField.
  RecordedConvInference(std::shared_ptr<const ConvModel<T>> model,
                        std::vector<Compatibility<T>> compatibility, NodeView<const T> unary,
                        NodeView<const T> start, bool returns_scores, int interval);

  T update(bool wants_change) override;
  void finish(const ResultPlace<T>& place) override;
  void store_marginals(NodeView<T> to) const override;
  void store_result(NodeView<T> to) override;
  void load_marginals(NodeView<const T> from) override;

  int num_updates() const { return num_stored_ - 1; }
  int64_t num_bytes() const;

  // Gradients of a function of the result from its gradient by it. What has no data is not
  // wanted. `interrupt` is called before every update and throws to stop.
  void reverse(NodeView<const T> grad_result, NodeView<T> grad_unary, NodeView<T> grad_start,
               std::vector<ConvGroupGradient<T>>& groups,
               const std::function<void()>& interrupt) const;

 private:
  class Reader;

  bool keeps(int index) const { return index % interval_ == 0; }
  const MarginRows<T>& stored(int index) const {
    return keeps(index) ? kept_[static_cast<size_t>(index / interval_)] : passing_[index % 2];
  }
  MarginRows<T>& next();
  MarginRows<T> new_rows() const;

  std::shared_ptr<const ConvModel<T>> model_;
  std::vector<Compatibility<T>> compatibility_;
  int64_t num_labels_;
  bool has_start_;
  bool returns_scores_;
  int interval_;
  int num_stored_ = 0;
  std::vector<CompatibilityTable<T>> tables_;
  std::unique_ptr<UpdateScratch<T>> scratch_;  // until the last update
  Buffer<T> unary_;                            // [N, stride]
  Buffer<T> scores_;                           // [N, stride] of the latest update, if wanted
  std::vector<MarginRows<T>> kept_;
  MarginRows<T> passing_[2];  // those that are not kept, in turn
};

}  // namespace densefield
