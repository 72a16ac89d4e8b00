#include "binary_field.h"

#include "compatibility_table.h"
#include "densefield/error.h"

namespace densefield {

template <typename T>
BinaryCoupling<T> binary_coupling(const Compatibility<T>& compatibility) {
  const std::vector<T>& a = compatibility.values;
  switch (compatibility.form) {
    case CompatibilityForm::scalar: return {T(0), a[0]};
    case CompatibilityForm::vector: return {(a[1] - a[0]) / 2, (a[1] + a[0]) / 2};
    default: {
      // What label 1 pays more than label 0 beside label 1, and beside label 0.
      const T beside_1 = a[3] - a[1], beside_0 = a[2] - a[0];
      return {(beside_1 + beside_0) / 2, (beside_1 - beside_0) / 2};
    }
  }
}

template <typename T>
BinaryField<T>::BinaryField(std::shared_ptr<const CrfModel<T>> model,
                            const std::vector<Compatibility<T>>& compatibility,
                            NodeView<const T> unary)
    : model_(std::move(model)), score_(model_->backend().memory(), model_->num_nodes()) {
  Backend<T>& backend = model_->backend();
  backend.binary_score(model_->layout(), unary, score_.data());
  Buffer<T> base_sum;  // [N] what all messages have in common; empty: nothing
  for (size_t m = 0; m < model_->kernels().size(); ++m) {
    check_compatibility_size(compatibility[m], 2);
    const LatticeKernel<T>& kernel = model_->kernels()[m];
    const auto [base, coupling] = binary_coupling(compatibility[m]);
    coupling_.push_back(coupling);
    vertices_.push_back(backend.make_vertex_values(*kernel.lattice));
    if (base != T(0)) subtract_base(kernel, *vertices_.back(), base, base_sum);
  }
  scratch_ = backend.make_update_scratch(model_->layout(), 1, vertices_.size(), false);
  pass(false, true, nullptr);  // the softmax of the unary alone
  if (!base_sum.is_empty()) backend.add(base_sum.data(), base_sum.size(), score_.data());
}

template <typename T>
void BinaryField<T>::subtract_base(const LatticeKernel<T>& kernel, VertexRows<T>& vertices, T base,
                                   Buffer<T>& sum) const {
  Backend<T>& backend = model_->backend();
  const int64_t num_nodes = model_->num_nodes();
  Buffer<T> sums(backend.memory(), num_nodes);
  backend.fill(T(1), num_nodes, sums.data());
  backend.splat(*kernel.lattice, sums.data(), kernel.pre.data(), vertices);
  backend.blur(*kernel.lattice, false, vertices);
  backend.slice(*kernel.lattice, vertices, kernel.post.data(), -base, sums.data());
  if (sum.is_empty())
    sum = std::move(sums);
  else
    backend.add(sums.data(), num_nodes, sum.data());
}

template <typename T>
void BinaryField<T>::blur_messages() {
  model_->backend().blur_messages(model_->kernels(), vertices_);
}

template <typename T>
void BinaryField<T>::pass(bool has_messages, bool splats, const NodeView<T>* result) {
  BinaryPass<T> arguments{};
  arguments.layout = &model_->layout();
  arguments.kernels = model_->kernels();
  arguments.coupling = coupling_;
  arguments.vertices = vertices_;
  arguments.has_messages = has_messages;
  arguments.splats = splats;
  arguments.score = score_.data();
  arguments.result = result;
  arguments.scratch = scratch_.get();
  model_->backend().binary_pass(arguments);
}

template <typename T>
T BinaryField<T>::update(bool /*wants_change*/) {
  blur_messages();
  pass(true, true, nullptr);
  return T(0);
}

template <typename T>
void BinaryField<T>::finish(const ResultPlace<T>& place) {
  blur_messages();
  const NodeView<T> to = place();
  pass(true, false, &to);
}

template <typename T>
void BinaryField<T>::store_marginals(NodeView<T> /*to*/) const {
  throw Error(Error::Kind::runtime, "the marginals of this inference are not kept");
}
template <typename T>
void BinaryField<T>::load_marginals(NodeView<const T> /*from*/) {
  throw Error(Error::Kind::runtime, "the marginals of this inference are not kept");
}

template <typename T>
std::shared_ptr<Field<T>> make_mean_field(std::shared_ptr<const CrfModel<T>> model,
                                          const std::vector<Compatibility<T>>& compatibility,
                                          NodeView<const T> unary, bool keeps_marginals,
                                          bool returns_scores, bool unary_may_change) {
  if (unary.num_channels == 2 && !keeps_marginals && !returns_scores && !model->excludes_self())
    return std::make_shared<BinaryField<T>>(std::move(model), compatibility, unary);
  return std::make_shared<MeanField<T>>(std::move(model), compatibility, unary, keeps_marginals,
                                        returns_scores, unary_may_change);
}

#define DF_INSTANTIATE(T)                                                                  \
  template BinaryCoupling<T> binary_coupling(const Compatibility<T>&);                     \
  template class BinaryField<T>;                                                           \
  template std::shared_ptr<Field<T>> make_mean_field(std::shared_ptr<const CrfModel<T>>,   \
                                                     const std::vector<Compatibility<T>>&, \
                                                     NodeView<const T>, bool, bool, bool);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield
