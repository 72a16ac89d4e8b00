// One tap of the lattice blur, maths §4 step 6, [ABD10].
#pragma once

#include "portable.h"

namespace densefield {

// A neighbour missing from the lattice counts as 0. The tap is symmetric; the whole blur
// is not: its transpose takes the directions in reverse order.
template <typename V>
DF_HD V blur_tap(V left, V centre, V right) {
  return centre + Scalar<V>(0.5) * (left + right);
}

// What the slice multiplies by, maths §4 step 7: 1 / (1 + 2^-d).
template <typename T>
DF_HD T slice_scale(int d) {
  return T(1) / (T(1) + T(1) / power_of_two<T>(Int<T>(d)));
}

}  // namespace densefield
