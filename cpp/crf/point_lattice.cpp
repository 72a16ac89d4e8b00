// The lattice engine for point sets: splat, blur, slice and the whole filter, maths §4.
#include "densefield/crf.h"

namespace densefield {

template <typename T>
PointLattice<T>::PointLattice(Backend<T>& backend, NodeView<const T> features)
    : backend_(&backend),
      layout_(backend.make_layout(Grid{{features.num_nodes}},
                                  static_cast<int>(features.num_channels))) {
  const std::vector<T> ones(static_cast<size_t>(features.num_channels), T(1));
  lattice_ = backend.build_lattice(layout_, Features<T>{{}, features, ones});
}

template <typename T>
Buffer<T> PointLattice<T>::load(NodeView<const T> values) const {
  Buffer<T> rows(backend_->memory(), values.num_nodes * backend_->row_stride(values.num_channels));
  backend_->load_nodes(*layout_, values, T(0), rows.data());
  return rows;
}

template <typename T>
void PointLattice<T>::splat(NodeView<const T> values, NodeView<T> vertices) const {
  const auto rows = backend_->make_vertex_rows(*lattice_, values.num_channels);
  backend_->splat(*lattice_, load(values).data(), nullptr, *rows);
  backend_->store_vertices(*lattice_, *rows, vertices);
}

template <typename T>
void PointLattice<T>::blur(NodeView<const T> in, bool reverse, NodeView<T> out) const {
  const auto rows = backend_->make_vertex_rows(*lattice_, in.num_channels);
  backend_->load_vertices(*lattice_, in, *rows);
  backend_->blur(*lattice_, reverse, *rows);
  backend_->store_vertices(*lattice_, *rows, out);
}

template <typename T>
void PointLattice<T>::slice(NodeView<const T> vertices, NodeView<T> values) const {
  const auto rows = backend_->make_vertex_rows(*lattice_, vertices.num_channels);
  backend_->load_vertices(*lattice_, vertices, *rows);
  Buffer<T> out(backend_->memory(), values.num_nodes * backend_->row_stride(values.num_channels));
  backend_->slice(*lattice_, *rows, nullptr, lattice_->slice_scale(), out.data());
  backend_->store_nodes(*layout_, out.data(), values);
}

template <typename T>
void PointLattice<T>::filter(NodeView<const T> in, bool transpose, NodeView<T> out) const {
  Buffer<T> rows = load(in);
  const auto vertices = backend_->make_vertex_rows(*lattice_, in.num_channels);
  backend_->splat(*lattice_, rows.data(), nullptr, *vertices);
  backend_->blur(*lattice_, transpose, *vertices);
  backend_->slice(*lattice_, *vertices, nullptr, lattice_->slice_scale(), rows.data());
  backend_->store_nodes(*layout_, rows.data(), out);
}

template <typename T>
void PointLattice<T>::diagonal(T* out) const {
  // A point set's layout keeps the caller's order.
  Buffer<T> rows(backend_->memory(), lattice_->num_points());
  backend_->diagonal(*lattice_, rows.data());
  backend_->download(rows.data(), rows.size(), out);
}

template <typename T>
void PointLattice<T>::reverse(NodeView<const T> values, NodeView<const T> grad_out,
                              NodeView<T> grad_values, NodeView<T> grad_features) const {
  const int64_t num_channels = values.num_channels, num_points = lattice_->num_points();
  const Buffer<T> rows = load(values);
  Buffer<T> grad_rows = load(grad_out);
  const auto forward = backend_->make_vertex_rows(*lattice_, num_channels);
  const auto reversed = backend_->make_vertex_rows(*lattice_, num_channels);
  backend_->splat(*lattice_, rows.data(), nullptr, *forward);
  backend_->splat(*lattice_, grad_rows.data(), nullptr, *reversed);
  backend_->blur(*lattice_, false, *forward);
  backend_->blur(*lattice_, true, *reversed);

  const T scale = lattice_->slice_scale();
  Buffer<T> grad_weight(backend_->memory(), num_points * (lattice_->dim() + 1));
  backend_->fill(T(0), grad_weight.size(), grad_weight.data());
  backend_->weight_gradient(*lattice_, grad_rows.data(), *forward, num_channels, scale,
                            grad_weight.data());
  backend_->weight_gradient(*lattice_, rows.data(), *reversed, num_channels, scale,
                            grad_weight.data());
  const auto dim = static_cast<size_t>(lattice_->dim());
  const Features<T> unscaled{
      {}, {nullptr, num_points, lattice_->dim(), 0, 0}, std::vector<T>(dim, T(1))};
  backend_->feature_gradient(*lattice_, unscaled, grad_weight.data(),
                             {grad_features, nullptr, nullptr});

  backend_->slice(*lattice_, *reversed, nullptr, scale, grad_rows.data());
  backend_->store_nodes(*layout_, grad_rows.data(), grad_values);
}

template class PointLattice<float>;
template class PointLattice<double>;

}  // namespace densefield
