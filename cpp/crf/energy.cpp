// KL divergence and energy, maths §2: messages of all kernels at given marginals.
#include "energy_sums.h"

namespace densefield {

template <typename T>
EnergyTerms energy_terms(const CrfModel<T>& model,
                         const std::vector<Compatibility<T>>& compatibility,
                         NodeView<const T> unary, NodeView<const T> marginals) {
  Backend<T>& backend = model.backend();
  return sum_energies(
      backend, model.layout(), compatibility, unary, marginals,
      [&](size_t m, const T* q, T* rows) {
        apply_kernel(backend, model.kernels()[m], q, unary.num_channels, false, rows);
      },
      [&](size_t m) { return kernel_diagonal(backend, model.kernels()[m]); });
}

template EnergyTerms energy_terms(const CrfModel<float>&, const std::vector<Compatibility<float>>&,
                                  NodeView<const float>, NodeView<const float>);
template EnergyTerms energy_terms(const CrfModel<double>&,
                                  const std::vector<Compatibility<double>>&, NodeView<const double>,
                                  NodeView<const double>);

}  // namespace densefield
