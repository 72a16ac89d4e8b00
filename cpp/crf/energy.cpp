// KL divergence and energy, maths §2: messages of all kernels at given marginals.
#include "compatibility_table.h"
#include "densefield/crf.h"

namespace densefield {

template <typename T>
EnergyTerms energy_terms(const CrfModel<T>& model,
                         const std::vector<Compatibility<T>>& compatibility,
                         NodeView<const T> unary, NodeView<const T> marginals) {
  Backend<T>& backend = model.backend();
  const int64_t num_labels = unary.num_channels;
  const int64_t elements = model.num_nodes() * backend.row_stride(num_labels);
  Buffer<T> q(backend.memory(), elements), rows(backend.memory(), elements);
  backend.load_nodes(model.layout(), marginals, T(0), q.data());
  backend.load_nodes(model.layout(), unary, T(0), rows.data());
  EnergyTerms terms;
  terms.unary = backend.unary_energy(model.layout(), q.data(), rows.data(), num_labels);
  terms.negative_entropy = backend.negative_entropy(model.layout(), q.data(), num_labels);
  for (size_t m = 0; m < model.kernels().size(); ++m) {
    const LatticeKernel<T>& kernel = model.kernels()[m];
    apply_kernel(backend, kernel, q.data(), num_labels, false, rows.data());
    const Buffer<T> self = kernel_diagonal(backend, kernel);
    const PairwiseEnergy energy =
        backend.pairwise_energy(model.layout(), q.data(), rows.data(), self.data(),
                                make_compatibility_table(backend, compatibility[m], num_labels),
                                compatibility[m].offset, num_labels);
    terms.pairs += energy.pairs;
    terms.self += energy.self;
  }
  return terms;
}

template EnergyTerms energy_terms(const CrfModel<float>&, const std::vector<Compatibility<float>>&,
                                  NodeView<const float>, NodeView<const float>);
template EnergyTerms energy_terms(const CrfModel<double>&,
                                  const std::vector<Compatibility<double>>&, NodeView<const double>,
                                  NodeView<const double>);

}  // namespace densefield
