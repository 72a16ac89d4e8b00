// When a field leaves out labels, and when it takes them back; maths §2.
#pragma once

#include <memory>
#include <vector>

#include "densefield/backend.h"
#include "densefield/crf.h"

namespace densefield {

// The labels of one inference.
template <typename T>
class LabelPruning {
 public:
  // nullptr where no label may be left out: a backend without the means, couplings between
  // labels, kernels whose rows do not sum to about one, double precision, few labels.
  static std::unique_ptr<LabelPruning> make(const CrfModel<T>& model,
                                            const std::vector<Compatibility<T>>& compatibility,
                                            NodeView<const T> unary);

  const std::vector<int32_t>& order() const { return order_; }
  int64_t num_active() const { return num_active_; }
  // For the next pass.
  PassLabels<T> pass_labels(bool has_messages);
  // After a pass with messages: whether labels that had none hold so much that its result is not
  // good enough, and how many labels of the active ones need messages in the next.
  bool needs_all() const;
  int64_t num_needed() const;

  // From the next pass on. Who has taken all once does not leave out any more.
  void leave_out_after(int64_t num_active) { num_active_ = num_active; }
  void take_all();

 private:
  LabelPruning(const CrfModel<T>& model, std::vector<int32_t> order, T limit);

  const CrfModel<T>* model_;
  std::vector<int32_t> order_;
  T limit_;  // what the labels left out may hold together at any node
  int64_t num_active_;
  bool may_prune_ = true;
  int64_t plane_;
  Buffer<T> term_;        // [groups, plane]
  std::vector<T> share_;  // of the latest pass with messages
};

}  // namespace densefield
