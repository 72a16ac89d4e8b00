// The published options of ConvCRF, maths §5, for one label of one node: the unary is normalised
// and weighted before it is used, and the way back.
#pragma once

#include "portable.h"

namespace densefield {

// log p, given the node's largest score and the logarithm of the sum of its softmax terms; scores
// are negative energies.
template <typename V>
DF_HD V log_softmax(V score, V largest, V log_sum) {
  return (score - largest) - log_sum;
}

// The energy that takes the unary's place.
template <typename V>
DF_HD V weighted_energy(V log_p, V weight) {
  return -weight * log_p;
}

// By log p, given the gradients by that energy and by what the first message is computed of, whose
// slope is 1 for log p itself and p for p.
template <typename V>
DF_HD V log_p_gradient(V weight, V grad_energy, V slope, V grad_start) {
  return slope * grad_start - weight * grad_energy;
}

// By the energy that was given, from the gradient by log p and the node's sum of those.
template <typename V>
DF_HD V log_softmax_gradient(V p, V grad, V sum) {
  return p * sum - grad;
}

}  // namespace densefield
