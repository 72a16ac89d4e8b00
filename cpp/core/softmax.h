// Softmax of one node's negative energies, maths §2.
#pragma once

#include "exp.h"

namespace densefield {

// The part of one label (or of a vector of labels), given the node's largest score.
// Dividing by the sum over labels is left to the caller, who owns the fold.
template <typename V>
DF_HD V softmax_term(V score, V largest) {
  return exp_nonpositive(score - largest);
}

}  // namespace densefield
