// What an image contributes to a ConvCRF: one table of merged weights per group of kernels.
#include <algorithm>

#include "densefield/conv_crf.h"
#include "energy_sums.h"

namespace densefield {

template <typename T>
ConvModel<T>::ConvModel(Backend<T>& backend, const Grid& grid, const WindowOptions& options,
                        const std::vector<std::vector<WindowTerm<T>>>& groups, bool exclude_self)
    : backend_(&backend),
      // As a point set the nodes keep the order of the grid.
      layout_(backend.make_layout(Grid{{grid.num_nodes()}}, 1)) {
  for (const auto& terms : groups) {
    tables_.push_back(backend.make_window_table(grid, options, terms));
    if (exclude_self) self_.push_back(diagonal(tables_.size() - 1));
  }
}

template <typename T>
int64_t ConvModel<T>::margin() const {
  int64_t widest = 0;
  for (const auto& table : tables_) widest = std::max(widest, table->margin());
  return widest;
}

template <typename T>
int64_t ConvModel<T>::num_bytes() const {
  int64_t total = 0;
  for (const auto& table : tables_) total += table->num_bytes();
  for (const Buffer<T>& diagonal : self_) total += diagonal.num_bytes();
  return total;
}

template <typename T>
void ConvModel<T>::apply(size_t group, NodeView<const T> in, bool transpose,
                         NodeView<T> out) const {
  const int64_t stride = backend_->row_stride(in.num_channels);
  MarginRows<T> rows(*backend_, num_nodes(), margin(), stride);
  backend_->load_nodes(*layout_, in, T(0), rows.data());
  Buffer<T> filtered(backend_->memory(), num_nodes() * stride);
  backend_->apply_window(*tables_[group], rows.data(), in.num_channels, transpose, filtered.data());
  backend_->store_nodes(*layout_, filtered.data(), out);
}

template <typename T>
Buffer<T> ConvModel<T>::diagonal(size_t group) const {
  Buffer<T> out(backend_->memory(), num_nodes());
  backend_->window_diagonal(*tables_[group], out.data());
  return out;
}

template <typename T>
EnergyTerms energy_terms(const ConvModel<T>& model,
                         const std::vector<Compatibility<T>>& compatibility,
                         NodeView<const T> unary, NodeView<const T> marginals) {
  Backend<T>& backend = model.backend();
  const int64_t stride = backend.row_stride(unary.num_channels);
  MarginRows<T> rows(backend, model.num_nodes(), model.margin(), stride);
  backend.load_nodes(model.layout(), marginals, T(0), rows.data());
  return sum_energies(
      backend, model.layout(), compatibility, unary, marginals,
      [&](size_t m, const T*, T* out) {
        backend.apply_window(*model.tables()[m], rows.data(), unary.num_channels, false, out);
      },
      [&](size_t m) { return model.diagonal(m); });
}

#define DF_INSTANTIATE(T)                                                                      \
  template class ConvModel<T>;                                                                 \
  template EnergyTerms energy_terms(const ConvModel<T>&, const std::vector<Compatibility<T>>&, \
                                    NodeView<const T>, NodeView<const T>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield
