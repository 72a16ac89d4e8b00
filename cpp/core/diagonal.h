// The diagonal of the lattice kernel, maths §4 "Diagonal".
#pragma once

#include "blur.h"

namespace densefield {

// What the blur carries from corner k of a simplex to corner l, where all vertices on the
// way exist: 2^-|k-l| along the directions between them, 2^-(d+1-|k-l|) around the other way.
template <typename T>
DF_HD T corner_coupling(int d, int distance) {
  const T there = T(1) / power_of_two<T>(Int<T>(distance));
  const T around = T(1) / power_of_two<T>(Int<T>(d + 1 - distance));
  return there + around;
}

// K_ii of one point from its barycentric weights [d+1], slice scale included.
template <typename T>
DF_HD T lattice_diagonal(int d, const T* weight) {
  const T same = T(1) + T(1) / power_of_two<T>(Int<T>(d));
  T sum = T(0);
  for (int k = 0; k <= d; ++k) {
    sum += same * weight[k] * weight[k];
    for (int l = 0; l < k; ++l) sum += T(2) * corner_coupling<T>(d, k - l) * weight[k] * weight[l];
  }
  return slice_scale<T>(d) * sum;
}

// Its derivative by the weight of corner k.
template <typename T>
DF_HD T lattice_diagonal_gradient(int d, const T* weight, int k) {
  T sum = (T(1) + T(1) / power_of_two<T>(Int<T>(d))) * weight[k];
  for (int l = 0; l <= d; ++l)
    if (l != k) sum += corner_coupling<T>(d, k < l ? l - k : k - l) * weight[l];
  return T(2) * slice_scale<T>(d) * sum;
}

}  // namespace densefield
