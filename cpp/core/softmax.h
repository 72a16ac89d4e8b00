// Softmax of one node's negative energies, maths §2, and its derivative, maths §6.
#pragma once

#include "exp.h"

namespace densefield {

// The part of one label (or of a vector of labels), given the node's largest score.
// Dividing by the sum over labels is left to the caller, who owns the fold.
template <typename V>
DF_HD V softmax_term(V score, V largest) {
  return exp_nonpositive(score - largest);
}

// Derivative by the score of one label (or of a vector of labels), given the gradient by its
// marginal and the mean of all the node's gradients, sum over l of grad(l) marginal(l).
template <typename V>
DF_HD V softmax_gradient(V marginal, V grad, V mean_grad) {
  return marginal * (grad - mean_grad);
}

// Two labels from the score s = log q_1 - log q_0: the smaller marginal to full precision.
template <typename V>
struct BinarySoftmax {
  V larger_one;   // 1 / (1 + exp(-|s|))
  V smaller_one;  // exp(-|s|) / (1 + exp(-|s|))
};
template <typename V>
DF_HD BinarySoftmax<V> binary_softmax(V score) {
  const V rest = exp_nonpositive(smaller(score, -score));
  const V inverse = Scalar<V>(1) / (Scalar<V>(1) + rest);
  return {inverse, rest * inverse};
}

}  // namespace densefield
