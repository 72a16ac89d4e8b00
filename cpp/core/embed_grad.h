// The derivative of core/embed.h: from a point's barycentric weights to its features, maths §6
// (32). Within a simplex the weights are a linear function of the features.
#pragma once

#include "embed.h"

namespace densefield {

// grad_f = E^T grad_y, where the weights of corners d - r and d + 1 - r (0 for d + 1) rise and
// fall with the component of rank r.
template <typename T>
DF_HD void embedding_gradient(int d, const T* scale,  // [d] of embedding_scales
                              const uint8_t* rank,    // [d+1] of the simplex
                              const T* grad_weight,   // [d+1]
                              T* grad_feature) {      // [d] out, per unit of sigma
  const T inverse = T(1) / T(d + 1);
  T sum = T(0);  // of grad_y_0 .. grad_y_j
  for (int j = 0; j <= d; ++j) {
    const int r = rank[j];
    const T grad_y = (grad_weight[d - r] - grad_weight[r == 0 ? 0 : d + 1 - r]) * inverse;
    if (j > 0) grad_feature[j - 1] = scale[j - 1] * (sum - T(j) * grad_y);
    sum += grad_y;
  }
}

}  // namespace densefield
