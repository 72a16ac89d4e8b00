// The terms of KL divergence and energy for kernels of any kind.
#pragma once

#include "compatibility_table.h"
#include "densefield/crf.h"

namespace densefield {

// messages(m, q, rows): rows = K~_m q; diagonal(m): the diagonal of K~_m as a Buffer.
template <typename T, typename Messages, typename Diagonal>
EnergyTerms sum_energies(Backend<T>& backend, const NodeLayout& layout,
                         const std::vector<Compatibility<T>>& compatibility,
                         NodeView<const T> unary, NodeView<const T> marginals, Messages messages,
                         Diagonal diagonal) {
  const int64_t num_labels = unary.num_channels;
  const int64_t elements = layout.num_nodes() * backend.row_stride(num_labels);
  Buffer<T> q(backend.memory(), elements), rows(backend.memory(), elements);
  backend.load_nodes(layout, marginals, T(0), q.data());
  backend.load_nodes(layout, unary, T(0), rows.data());
  EnergyTerms terms;
  terms.unary = backend.unary_energy(layout, q.data(), rows.data(), num_labels);
  terms.negative_entropy = backend.negative_entropy(layout, q.data(), num_labels);
  for (size_t m = 0; m < compatibility.size(); ++m) {
    messages(m, q.data(), rows.data());
    const Buffer<T> self = diagonal(m);
    const PairwiseEnergy energy =
        backend.pairwise_energy(layout, q.data(), rows.data(), self.data(),
                                make_compatibility_table(backend, compatibility[m], num_labels),
                                compatibility[m].offset, num_labels);
    terms.pairs += energy.pairs;
    terms.self += energy.self;
  }
  return terms;
}

}  // namespace densefield
