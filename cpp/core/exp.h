// exp for arguments that are never positive, one text for scalars, vectors and devices.
#pragma once

#include "portable.h"

namespace densefield {

// Minimax polynomial of exp(r) on |r| <= ln(2)/2 with p(0) = 1, relative error 9e-8; and, for
// double, the Taylor series, whose next term is below half a unit there.
template <typename T>
struct ExpSeries {
  static constexpr int kDegree = 13;
  double term[kDegree + 1] = {1.0,
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
};
template <>
struct ExpSeries<float> {
  static constexpr int kDegree = 5;
  float term[kDegree + 1] = {1.0f,           0.99999970198f, 0.49999147654f,
                             0.16667638719f, 0.04189816117f, 0.00829027221f};
};

// Relative error below 2e-7 (float) and 4e-16 (double). Below kLowest the result is 0: a
// softmax cannot tell it from that, and products with it would be subnormal numbers, which
// processors are slow with.
// Range reduction x = n ln 2 + r, |r| <= ln(2)/2; exp(r) by a polynomial, then times 2^n.
template <typename V>
DF_HD V exp_nonpositive(V x) {
  using T = Scalar<V>;
  // A local constant: devices have no static ones.
  constexpr ExpSeries<T> kSeries{};
  constexpr int kDegree = ExpSeries<T>::kDegree;
  constexpr bool kIsFloat = sizeof(T) == 4;
  constexpr T kLowest = kIsFloat ? T(-60.0) : T(-600.0);
  constexpr T kLog2e = T(1.44269504088896340736);
  // ln 2 in two parts; the first has trailing zeros, so that n * kLn2High is exact.
  constexpr T kLn2High = kIsFloat ? T(0.693359375) : T(6.93147180369123816490e-01);
  constexpr T kLn2Low = kIsFloat ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
  const V clamped = larger(x, V{} + kLowest);
  const V shifted = clamped * kLog2e + kRoundingShift<T>;
  const V n = shifted - kRoundingShift<T>;
  const V r = (clamped - n * kLn2High) - n * kLn2Low;
  V p = V{} + T(kSeries.term[kDegree]);
  for (int k = kDegree - 1; k >= 0; --k) p = p * r + T(kSeries.term[k]);
  return x < V{} + kLowest ? V{} : times_power_of_two(p, shifted);
}

}  // namespace densefield
