// ConvCRF, [TC18], maths §5: the model of crf.h with kernels cut to a window of the grid.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "densefield/crf.h"
#include "densefield/window.h"

namespace densefield {

// Rows with margins of zeros before the first and behind the last.
template <typename T>
class MarginRows {
 public:
  MarginRows() = default;
  MarginRows(Backend<T>& backend, int64_t num_rows, int64_t margin, int64_t stride)
      : first_(margin * stride), buffer_(backend.memory(), (num_rows + 2 * margin) * stride) {
    backend.fill(T(0), first_, buffer_.data());
    backend.fill(T(0), first_, buffer_.data() + buffer_.size() - first_);
  }
  T* data() { return buffer_.data() + first_; }
  const T* data() const { return buffer_.data() + first_; }
  int64_t num_bytes() const { return buffer_.num_bytes(); }

 private:
  int64_t first_ = 0;
  Buffer<T> buffer_;
};

// All that depends on the image: the merged weights of every group of kernels that share a
// compatibility. Immutable; several inferences may use one at once.
template <typename T>
class ConvModel {
 public:
  ConvModel(Backend<T>& backend, const Grid& grid, const WindowOptions& options,
            const std::vector<std::vector<WindowTerm<T>>>& groups, bool exclude_self);

  Backend<T>& backend() const { return *backend_; }
  const NodeLayout& layout() const { return *layout_; }
  int64_t num_nodes() const { return layout_->num_nodes(); }
  const std::vector<std::shared_ptr<const WindowTable<T>>>& tables() const { return tables_; }
  const std::vector<Buffer<T>>& self() const { return self_; }  // empty unless excluded
  int64_t margin() const;
  int64_t num_bytes() const;

  // out = K~ in or K~^T in for one group.
  void apply(size_t group, NodeView<const T> in, bool transpose, NodeView<T> out) const;
  // The diagonal of K~ of one group, [N].
  Buffer<T> diagonal(size_t group) const;

 private:
  Backend<T>* backend_;
  std::shared_ptr<const NodeLayout> layout_;
  std::vector<std::shared_ptr<const WindowTable<T>>> tables_;
  std::vector<Buffer<T>> self_;
};

// One update, or the softmax of the unary alone.
template <typename T>
struct ConvUpdate {
  std::span<const CompatibilityTable<T>> compatibility;  // one per group; empty: no messages
  int64_t num_labels;
  const T* unary;                 // [N, stride], padding infinity; or nullptr:
  NodeView<const T> unary_nodes;  // see WindowPass
  const T* marginals;             // [N, stride] with margins
  T* updated;                     // [N, stride] or nullptr, see WindowPass
  bool keeps_updated;
  T* scores;  // [N, stride] out, or nullptr
  bool wants_change;
  const NodeView<T>* result;  // or nullptr
  UpdateScratch<T>* scratch;  // of make_scratch
};
template <typename T>
std::unique_ptr<UpdateScratch<T>> make_scratch(const ConvModel<T>& model, int64_t num_labels);
// Returns max |change| where asked for.
template <typename T>
T run_update(const ConvModel<T>& model, const ConvUpdate<T>& update);

// Mean field with window kernels. Marginals go back and forth between two buffers, so they
// can be stored after every update but the last.
template <typename T>
class ConvField final : public Field<T> {
 public:
  // One compatibility for each group of the model. `returns_scores`: the result is what the
  // last softmax would be taken of. Unless the unary is copied, it must stay as it is for as long
  // as the field is used; the backend may copy it all the same.
  ConvField(std::shared_ptr<const ConvModel<T>> model,
            const std::vector<Compatibility<T>>& compatibility, NodeView<const T> unary,
            bool returns_scores, bool copies_unary);

  T update(bool wants_change) override;
  void finish(const ResultPlace<T>& place) override;
  void store_marginals(NodeView<T> to) const override;
  void store_result(NodeView<T> to) override;
  void load_marginals(NodeView<const T> from) override;

 private:
  T pass(bool has_messages, bool keeps_marginals, bool wants_change, const NodeView<T>* result);

  std::shared_ptr<const ConvModel<T>> model_;
  int64_t num_labels_;
  bool returns_scores_;
  bool has_scores_ = false;
  NodeView<const T> unary_nodes_;
  Buffer<T> unary_;   // [N, stride], or empty: read at unary_nodes_
  Buffer<T> scores_;  // [N, stride] if wanted
  MarginRows<T> marginals_;
  MarginRows<T> updated_;
  std::vector<CompatibilityTable<T>> compatibility_;
  std::unique_ptr<UpdateScratch<T>> scratch_;
};

template <typename T>
EnergyTerms energy_terms(const ConvModel<T>& model,
                         const std::vector<Compatibility<T>>& compatibility,
                         NodeView<const T> unary, NodeView<const T> marginals);

}  // namespace densefield
