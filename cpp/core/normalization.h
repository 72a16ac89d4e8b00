// Normalisation of a kernel, maths §3.
#pragma once

#include "portable.h"

namespace densefield {

// The scale of one node from n = (K 1)_i: 1 / (n + 1e-20) or its square root. The constant
// is below the smallest n that a lattice or a window can give; it keeps n = 0 finite.
template <typename T>
DF_HD T normalization_scale(T n, bool square_root) {
  const T inverse = T(1) / (n + T(1e-20));
  return square_root ? T(__builtin_sqrt(double(inverse))) : inverse;
}

}  // namespace densefield
