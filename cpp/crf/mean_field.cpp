// Mean field, [KK11] Algorithm 1; maths §2. All work on nodes is one fused backend pass;
// between passes only the vertices of the lattices are touched.
#include <limits>

#include "compatibility_table.h"
#include "densefield/crf.h"
#include "densefield/error.h"

namespace densefield {

template <typename T>
MeanField<T>::MeanField(std::shared_ptr<const CrfModel<T>> model,
                        const std::vector<Compatibility<T>>& compatibility, NodeView<const T> unary,
                        bool keeps_marginals)
    : model_(std::move(model)),
      num_labels_(unary.num_channels),
      keeps_marginals_(keeps_marginals || model_->excludes_self()) {
  Backend<T>& backend = model_->backend();
  const int64_t elements = model_->num_nodes() * backend.row_stride(num_labels_);
  unary_ = Buffer<T>(backend.memory(), elements);
  if (keeps_marginals_) marginals_ = Buffer<T>(backend.memory(), elements);
  // The padding's energy is above any label's, so that its marginals vanish.
  backend.load_nodes(model_->layout(), unary, std::numeric_limits<T>::infinity(), unary_.data());
  for (size_t m = 0; m < model_->kernels().size(); ++m) {
    compatibility_.push_back(make_compatibility_table(backend, compatibility[m], num_labels_));
    vertices_.push_back(backend.make_vertex_rows(*model_->kernels()[m].lattice, num_labels_));
  }
  pass(false, true, false, nullptr);
}

template <typename T>
T MeanField<T>::pass(bool has_messages, bool splats, bool wants_change, const NodeView<T>* result) {
  MeanFieldPass<T> arguments{};
  arguments.layout = &model_->layout();
  arguments.num_labels = num_labels_;
  arguments.kernels = model_->kernels();
  arguments.compatibility = compatibility_;
  arguments.vertices = vertices_;
  arguments.has_messages = has_messages;
  arguments.splats = splats;
  arguments.unary = unary_.data();
  arguments.marginals = marginals_.data();
  arguments.wants_change = wants_change;
  arguments.result = result;
  return model_->backend().mean_field_pass(arguments);
}

template <typename T>
void MeanField<T>::blur_messages() {
  if (!can_continue_)
    throw Error(Error::Kind::runtime,
                "no update can follow the last one, or one that failed; start a new inference");
  can_continue_ = false;
  for (size_t m = 0; m < vertices_.size(); ++m)
    model_->backend().blur(*model_->kernels()[m].lattice, false, *vertices_[m]);
}

template <typename T>
T MeanField<T>::update(bool wants_change) {
  blur_messages();
  const T change = pass(true, true, wants_change, nullptr);
  can_continue_ = true;
  return change;
}

template <typename T>
void MeanField<T>::finish(NodeView<T> to) {
  blur_messages();
  pass(true, false, false, &to);
}

template <typename T>
void MeanField<T>::store_marginals(NodeView<T> to) const {
  model_->backend().store_nodes(model_->layout(), marginals_.data(), to);
}

template <typename T>
void MeanField<T>::load_marginals(NodeView<const T> from) {
  Backend<T>& backend = model_->backend();
  backend.load_nodes(model_->layout(), from, T(0), marginals_.data());
  for (size_t m = 0; m < vertices_.size(); ++m)
    backend.splat(*model_->kernels()[m].lattice, marginals_.data(), model_->kernels()[m].pre.data(),
                  *vertices_[m]);
  can_continue_ = true;
}

template class MeanField<float>;
template class MeanField<double>;

}  // namespace densefield
