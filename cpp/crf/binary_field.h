// Mean field of two labels on one number per node, maths §2 with q_0 = 1 - q_1.
#pragma once

#include <memory>
#include <vector>

#include "densefield/crf.h"

namespace densefield {

// With t = q_1 - q_0 and n = K~ 1, K~ q_1 = (n + K~ t) / 2 and K~ q_0 = (n - K~ t) / 2, so
//   log q_1 - log q_0 = U_0 - U_1 - sum over kernels of (base n + coupling K~ t).
// Of Potts' compatibility `base` is 0: equal numbers of both labels around favour none.
template <typename T>
struct BinaryCoupling {
  T base;
  T coupling;
};
template <typename T>
BinaryCoupling<T> binary_coupling(const Compatibility<T>& compatibility);

// Marginals are not kept: updates, and the last one into the caller's array.
template <typename T>
class BinaryField final : public Field<T> {
 public:
  BinaryField(std::shared_ptr<const CrfModel<T>> model,
              const std::vector<Compatibility<T>>& compatibility, NodeView<const T> unary);

  T update(bool wants_change) override;
  void finish(const ResultPlace<T>& place) override;
  void store_marginals(NodeView<T> to) const override;
  void load_marginals(NodeView<const T> from) override;

 private:
  // sum -= base K~ 1
  void subtract_base(const LatticeKernel<T>& kernel, VertexRows<T>& vertices, T base,
                     Buffer<T>& sum) const;
  void blur_messages();
  void pass(bool has_messages, bool splats, const NodeView<T>* result);

  std::shared_ptr<const CrfModel<T>> model_;
  Buffer<T> score_;  // [N] without messages
  std::vector<T> coupling_;
  std::vector<std::unique_ptr<VertexRows<T>>> vertices_;
  std::unique_ptr<UpdateScratch<T>> scratch_;
};

}  // namespace densefield
