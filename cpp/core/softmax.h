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
struct BinaryMarginals {
  V marginal_0;
  V marginal_1;
  V difference;  // q_1 - q_0
};
template <typename V>
DF_HD BinaryMarginals<V> binary_marginals(V score) {
  const V rest = exp_nonpositive(smaller(score, -score));
  const V larger_one = Scalar<V>(1) / (Scalar<V>(1) + rest), smaller_one = rest * larger_one;
  const V gap = larger_one - smaller_one;
  return {score < V{} ? larger_one : smaller_one, score < V{} ? smaller_one : larger_one,
          score < V{} ? -gap : gap};
}

}  // namespace densefield
