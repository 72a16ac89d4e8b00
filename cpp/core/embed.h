// Embedding of one point into the permutohedral lattice, maths §4 steps 1-3, [ABD10].
// Compiled without fused multiply-add everywhere: the rounding decides the simplex.
#pragma once

#include <type_traits>

#include "portable.h"

namespace densefield {

constexpr int kMaxDim = 32;  // feature dimensions; the cost of a point grows with the square

// The dimension of a function template: std::integral_constant<int, D> where the loops
// should unroll, int where any d up to kMaxDim is served by one instance.
template <typename Dim>
struct DimCapacity {
  static constexpr int value = kMaxDim;
};
template <int D>
struct DimCapacity<std::integral_constant<int, D>> {
  static constexpr int value = D;
};

// The enclosing simplex. Its vertex k has the coordinates
//   y_i = (d+1) * (cell_i - [rank_i > d-k]) + k,
// so (cell_i - [rank_i > d-k], i < d; k) names a vertex: the key of core/key.h.
template <typename V, int Capacity>
struct Simplex {
  V weight[Capacity + 1];     // barycentric, of vertex k; they sum to 1
  Int<V> cell[Capacity + 1];  // remainder-0 point divided by d+1
  Int<V> rank[Capacity + 1];  // 0..d, position of y_i - cell_i*(d+1) in descending order
};

// The axes along which corner k of a simplex lies one cell lower: bit i is rank_i > d-k.
template <typename V, typename Dim>
DF_HD Int<V> corner_subset(Dim d, const Int<V>* rank, int k) {
  Int<V> subset = {};
  for (int i = 0; i <= d; ++i) {
    const Int<V> bit = Int<V>{} + (1 << i);
    subset = subset | (rank[i] > Int<V>{} + (int(d) - k) ? bit : Int<V>{});
  }
  return subset;
}

// s_j of maths §4. The common factor is rounded to T before the product, as existing
// lattices do: one unit in the last place moves points that lie on a border.
template <typename T>
void embedding_scales(int d, T* scale) {
  const T common = static_cast<T>(__builtin_sqrt(2.0 / 3.0) * (d + 1));
  for (int j = 0; j < d; ++j)
    scale[j] = static_cast<T>(1.0 / __builtin_sqrt(double(j + 1) * (j + 2)) * double(common));
}

// y = E f: the point on the hyperplane sum(y) = 0.
template <typename V, typename Dim>
DF_HD void elevate(Dim d, const Scalar<V>* scale,  // [d]
                   const V* feature,               // [d], in units of sigma
                   V* y) {                         // [d+1] out
  V sum = V{};
  for (int j = d; j > 0; --j) {
    const V term = feature[j - 1] * scale[j - 1];
    y[j] = sum - Scalar<V>(j) * term;
    sum = sum + term;
  }
  y[0] = sum;
}

// Nearest remainder-0 point and ranks. On return y holds y_i - cell_i*(d+1).
template <typename V, typename Dim>
DF_HD void round_to_cell(Dim d, V* y, V* cell, V* rank) {
  using T = Scalar<V>;
  const T size = T(int(d) + 1);
  const T inverse = T(1) / size;
  V sum = V{};
  for (int i = 0; i <= d; ++i) {
    cell[i] = round_even(y[i] * inverse);
    sum = sum + cell[i];
    y[i] = y[i] - cell[i] * size;
    rank[i] = V{};
  }
  // A tie counts the higher index as smaller.
  for (int i = 0; i < d; ++i)
    for (int j = i + 1; j <= d; ++j) {
      const V behind = y[i] < y[j] ? V{} + T(1) : V{};
      rank[i] = rank[i] + behind;
      rank[j] = rank[j] + (T(1) - behind);
    }
  // The rounded point may lie off the hyperplane by sum cells: move the components that
  // were rounded the furthest.
  for (int i = 0; i <= d; ++i) {
    rank[i] = rank[i] + sum;
    const V shift = rank[i] < T(0) ? V{} + T(1) : (rank[i] > T(int(d)) ? V{} - T(1) : V{});
    rank[i] = rank[i] + shift * size;
    cell[i] = cell[i] + shift;
    y[i] = y[i] - shift * size;
  }
}

template <typename V, typename Dim>
DF_HD void embed_point(Dim d, const Scalar<V>* scale,  // [d] of embedding_scales
                       const V* feature,               // [d], in units of sigma
                       Simplex<V, DimCapacity<Dim>::value>& simplex) {
  using T = Scalar<V>;
  constexpr int kCapacity = DimCapacity<Dim>::value;
  V y[kCapacity + 1], cell[kCapacity + 1], rank[kCapacity + 1];
  elevate<V>(d, scale, feature, y);
  round_to_cell<V>(d, y, cell, rank);
  for (int i = 0; i <= d; ++i) {
    simplex.cell[i] = to_int(cell[i]);
    simplex.rank[i] = to_int(rank[i]);
  }
  // Barycentric weights are differences of neighbours in the descending order of y.
  for (int i = 1; i <= d; ++i)
    for (int j = 0; j <= d - i; ++j) {
      const V first = larger(y[j], y[j + 1]);
      y[j + 1] = smaller(y[j], y[j + 1]);
      y[j] = first;
    }
  const T inverse = T(1) / T(int(d) + 1);
  for (int i = 0; i <= d; ++i) y[i] = y[i] * inverse;
  for (int k = 1; k <= d; ++k) simplex.weight[k] = y[d - k] - y[d + 1 - k];
  simplex.weight[0] = y[d] + (T(1) - y[0]);
}

}  // namespace densefield
