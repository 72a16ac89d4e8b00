// 32-byte vectors in the compiler's own vector language, and the functions of
// core/portable.h for them. Levels with shorter registers get two or four of them.
#pragma once

#include "../../core/portable.h"

namespace densefield {

template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<int32_t> {
  typedef int32_t type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<int64_t> {
  typedef int64_t type __attribute__((vector_size(32)));
};

using FloatVector = VectorOf<float>::type;
using DoubleVector = VectorOf<double>::type;

template <>
struct Lanes<FloatVector> {
  using Scalar = float;
  using Int = VectorOf<int32_t>::type;
  static DF_HD Int to_int(FloatVector x) { return __builtin_convertvector(x, Int); }
  static DF_HD FloatVector bits_to_real(Int bits) { return (FloatVector)bits; }
  static DF_HD Int real_to_bits(FloatVector x) { return (Int)x; }
};
template <>
struct Lanes<DoubleVector> {
  using Scalar = double;
  using Int = VectorOf<int64_t>::type;
  static DF_HD Int to_int(DoubleVector x) { return __builtin_convertvector(x, Int); }
  static DF_HD DoubleVector bits_to_real(Int bits) { return (DoubleVector)bits; }
  static DF_HD Int real_to_bits(DoubleVector x) { return (Int)x; }
};

// Folds of a vector; the result stands in every lane.
DF_HD FloatVector swap_lanes(FloatVector x, int distance) {
  if (distance == 4) return __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3);
  if (distance == 2) return __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5);
  return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
}
DF_HD DoubleVector swap_lanes(DoubleVector x, int distance) {
  if (distance == 2) return __builtin_shufflevector(x, x, 2, 3, 0, 1);
  return __builtin_shufflevector(x, x, 1, 0, 3, 2);
}
template <typename V>
DF_HD V fold_max(V x) {
  constexpr int kLanes = static_cast<int>(sizeof(V) / sizeof(Scalar<V>));
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    x = larger(x, swap_lanes(x, distance));
  return x;
}
template <typename V>
DF_HD V fold_sum(V x) {
  constexpr int kLanes = static_cast<int>(sizeof(V) / sizeof(Scalar<V>));
  for (int distance = kLanes / 2; distance > 0; distance /= 2) x = x + swap_lanes(x, distance);
  return x;
}

struct Sum {
  template <typename V>
  DF_HD V operator()(V x, V y) const {
    return x + y;
  }
};
struct Larger {
  template <typename V>
  DF_HD V operator()(V x, V y) const {
    return larger(x, y);
  }
};

// Folds as many vectors as each has lanes: lane k of the result is the fold of x[k].
template <typename Fold>
DF_HD FloatVector fold_tile(const FloatVector* x, Fold fold) {
  FloatVector pair[4], four[2];
  for (int i = 0; i < 4; ++i)
    pair[i] = fold(__builtin_shufflevector(x[2 * i], x[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13),
                   __builtin_shufflevector(x[2 * i], x[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15));
  for (int i = 0; i < 2; ++i)
    four[i] =
        fold(__builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13),
             __builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15));
  return fold(__builtin_shufflevector(four[0], four[1], 0, 1, 2, 3, 8, 9, 10, 11),
              __builtin_shufflevector(four[0], four[1], 4, 5, 6, 7, 12, 13, 14, 15));
}
template <typename Fold>
DF_HD DoubleVector fold_tile(const DoubleVector* x, Fold fold) {
  DoubleVector pair[2];
  for (int i = 0; i < 2; ++i)
    pair[i] = fold(__builtin_shufflevector(x[2 * i], x[2 * i + 1], 0, 4, 2, 6),
                   __builtin_shufflevector(x[2 * i], x[2 * i + 1], 1, 5, 3, 7));
  return fold(__builtin_shufflevector(pair[0], pair[1], 0, 1, 4, 5),
              __builtin_shufflevector(pair[0], pair[1], 2, 3, 6, 7));
}

}  // namespace densefield
