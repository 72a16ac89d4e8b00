// exp for arguments that are never positive, one text for scalars, vectors and devices.
#pragma once

#include "portable.h"

namespace densefield {

// Relative error below 2e-7 (float) and 4e-16 (double). Below kLowest the result is 0: a
// softmax cannot tell it from that, and products with it would be subnormal numbers, which
// processors are slow with.
// Range reduction x = n ln 2 + r, |r| <= ln(2)/2, then the Taylor series of exp(r).
template <typename V>
DF_HD V exp_nonpositive(V x) {
  using T = Scalar<V>;
  constexpr bool kIsFloat = sizeof(T) == 4;
  constexpr T kLowest = kIsFloat ? T(-60.0) : T(-600.0);
  constexpr T kLog2e = T(1.44269504088896340736);
  // ln 2 in two parts; the first has trailing zeros, so that n * kLn2High is exact.
  constexpr T kLn2High = kIsFloat ? T(0.693359375) : T(6.93147180369123816490e-01);
  constexpr T kLn2Low = kIsFloat ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
  const V clamped = larger(x, V{} + kLowest);
  const V n = round_even(clamped * kLog2e);
  const V r = (clamped - n * kLn2High) - n * kLn2Low;
  constexpr int kTerms = kIsFloat ? 7 : 13;  // the next term is below half a unit
  constexpr double kInverseFactorial[14] = {1.0,
                                            1.0,
                                            1.0 / 2,
                                            1.0 / 6,
                                            1.0 / 24,
                                            1.0 / 120,
                                            1.0 / 720,
                                            1.0 / 5040,
                                            1.0 / 40320,
                                            1.0 / 362880,
                                            1.0 / 3628800,
                                            1.0 / 39916800,
                                            1.0 / 479001600,
                                            1.0 / 6227020800.0};
  V p = V{} + T(kInverseFactorial[kTerms]);
  for (int k = kTerms - 1; k >= 0; --k) p = p * r + T(kInverseFactorial[k]);
  return x < V{} + kLowest ? V{} : p * power_of_two<V>(to_int(n));
}

}  // namespace densefield
