// Embedding of a block of points, 8 floats or 4 doubles at a time. Compiled once per
// instruction set by embed_<level>.cpp, without fused multiply-add.
#pragma once

#include "../../core/embed.h"
#include "kernels.h"
#include "vector.h"

namespace densefield::simd {
namespace {

template <typename T, typename I, typename Dim>
void embed_of_dim(Dim d, const EmbedBlock<T, I>& block) {
  using V = typename VectorOf<T>::type;
  typedef V Reals __attribute__((may_alias, aligned(sizeof(T))));
  typedef Int<V> Integers __attribute__((may_alias, aligned(sizeof(T))));
  constexpr int64_t kStep = kRowBytes / static_cast<int64_t>(sizeof(T));
  for (int64_t p = 0; p < block.count; p += kStep) {
    V feature[DimCapacity<Dim>::value];
    for (int j = 0; j < d; ++j)
      feature[j] = *reinterpret_cast<const Reals*>(block.feature + j * block.plane + p);
    Simplex<V, DimCapacity<Dim>::value> simplex;
    embed_point<V>(d, block.scale, feature, simplex);
    for (int k = 0; k <= d; ++k) {
      *reinterpret_cast<Reals*>(block.weight + k * block.plane + p) = simplex.weight[k];
      *reinterpret_cast<Integers*>(block.cell + k * block.plane + p) = simplex.cell[k];
      if (block.rank != nullptr)
        *reinterpret_cast<Integers*>(block.rank + k * block.plane + p) = simplex.rank[k];
    }
    if (block.rank != nullptr) continue;
    Int<V> packed_rank = {};
    for (int k = 0; k <= d; ++k) {
      packed_rank |= (simplex.rank[k] & 0xF) << (4 * k);
      *reinterpret_cast<Integers*>(block.subset + k * block.plane + p) =
          corner_subset<V>(d, simplex.rank, k);
    }
    *reinterpret_cast<Integers*>(block.packed_rank + p) = packed_rank;
  }
}

// Image features have few dimensions: unrolled up to 6, one loop for the rest.
template <typename T, typename I>
void embed(const EmbedBlock<T, I>& block) {
  switch (block.dim) {
    case 1: return embed_of_dim(std::integral_constant<int, 1>{}, block);
    case 2: return embed_of_dim(std::integral_constant<int, 2>{}, block);
    case 3: return embed_of_dim(std::integral_constant<int, 3>{}, block);
    case 4: return embed_of_dim(std::integral_constant<int, 4>{}, block);
    case 5: return embed_of_dim(std::integral_constant<int, 5>{}, block);
    case 6: return embed_of_dim(std::integral_constant<int, 6>{}, block);
    default: return embed_of_dim(block.dim, block);
  }
}

}  // namespace
}  // namespace densefield::simd
