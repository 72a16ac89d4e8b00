// Gradients of dense CRF inference above any backend, maths §6.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "densefield/crf.h"
#include "densefield/reverse.h"

namespace densefield {

// How many marginals in a row are missing at most of `num_stored`, of which every `interval`-th
// and the latest are kept.
inline int most_missing(int interval, int num_stored) {
  return std::max(0, std::min(interval - 1, num_stored - 2));
}

// Marginals of successive updates of one inference, kept for the way back: those of every
// `interval`-th, from which the others can be computed again, and the latest.
template <typename T>
class MarginalHistory {
 public:
  // rows_size: elements of the marginals' rows.
  MarginalHistory(int interval, int64_t rows_size) : interval_(interval), rows_size_(rows_size) {}

  int interval() const { return interval_; }
  int num_stored() const { return num_stored_; }
  bool keeps(int index) const { return index % interval_ == 0; }
  // Marginals number `index`, which must be kept; or the latest.
  const T* kept(int index) const { return kept_[static_cast<size_t>(index / interval_)].data(); }
  const T* latest() const {
    return keeps(num_stored_ - 1) ? kept(num_stored_ - 1) : passing_.data();
  }
  // Takes the memory of so many marginals that are kept.
  void reserve(Memory& memory, int count);
  // Where the next marginals go. It may be the latest ones' place.
  T* next(Memory& memory);
  // Forgets the marginals and keeps the memory.
  void restart() { num_stored_ = 0; }
  int64_t num_bytes() const;

 private:
  int interval_;
  int64_t rows_size_;
  int num_stored_ = 0;
  std::vector<Buffer<T>> kept_;
  Buffer<T> passing_;
};

// One kernel's gradients: what is wanted besides the compatibility, and where it goes.
template <typename T>
struct KernelGradient {
  const Features<T>* features = nullptr;  // what the kernel was built from; nullptr: not wanted
  NodeView<T> values = {};                // by Features::values, added to
  std::vector<double> sigma;              // out: positions x, y, .. then values; or grid_sigma
  std::vector<double> compatibility;      // out: by A_m, [1], [L] or [L, L]

  bool wants_kernel() const { return features != nullptr; }
};

// An inference that can be differentiated: it remembers its marginals.
template <typename T>
class RecordedInference {
 public:
  // One compatibility for each kernel of the model.
  // `interval`: marginals of every so many updates are kept. `returns_scores`: the result, and
  // what is differentiated, is what the last softmax would be taken of.
  RecordedInference(std::shared_ptr<const CrfModel<T>> model,
                    std::vector<Compatibility<T>> compatibility, NodeView<const T> unary,
                    int interval, bool returns_scores = false);

  // Once; returns how many updates were made.
  int run(const InferenceOptions<T>& options, NodeView<T> out);

  // Gradients of a function of the marginals from its gradient by them. grad_unary is written,
  // or not if it has no data. `interrupt` is called before every update and throws to stop.
  void reverse(NodeView<const T> grad_marginals, NodeView<T> grad_unary,
               std::vector<KernelGradient<T>>& kernels,
               const std::function<void()>& interrupt) const;

  int num_updates() const { return history_.num_stored() - 1; }
  int64_t num_bytes() const;

 private:
  std::shared_ptr<const CrfModel<T>> model_;
  std::vector<Compatibility<T>> compatibility_;
  int64_t num_labels_;
  bool returns_scores_;
  std::shared_ptr<const Buffer<T>> unary_;  // after the run, only if marginals are missing
  MarginalHistory<T> history_;
};

}  // namespace densefield
