// Vectors in memory: what all files of inner loops share, with internal linkage in each.
#pragma once

#include "kernels.h"
#include "vector.h"

namespace densefield::simd {
namespace {

template <typename T>
using Vec = typename VectorOf<T>::type;

template <typename T>
constexpr int64_t kLanes = kRowBytes / static_cast<int64_t>(sizeof(T));

// For the body of a loop over chunks of points: all that it calls, lambdas too, becomes part of it.
// A step that is really called reads what its references refer to again after every store of a
// vector, which may alias anything: an update of 21 labels took a tenth longer.
#define DF_FLATTEN __attribute__((flatten))

// Rows of values are aligned to whole vectors.
template <typename T>
DF_HD Vec<T> load(const T* from) {
  typedef Vec<T> Aliasing __attribute__((may_alias));
  return *reinterpret_cast<const Aliasing*>(from);
}
template <typename T>
DF_HD void store(T* to, Vec<T> x) {
  typedef Vec<T> Aliasing __attribute__((may_alias));
  *reinterpret_cast<Aliasing*>(to) = x;
}

// The same anywhere in an array.
template <typename T>
DF_HD Vec<T> load_unaligned(const T* from) {
  typedef Vec<T> Anywhere __attribute__((may_alias, aligned(sizeof(T))));
  return *reinterpret_cast<const Anywhere*>(from);
}
template <typename T>
DF_HD void store_unaligned(T* to, Vec<T> x) {
  typedef Vec<T> Anywhere __attribute__((may_alias, aligned(sizeof(T))));
  *reinterpret_cast<Anywhere*>(to) = x;
}

// Asks for the lines of memory of an array that is used soon.
template <typename V>
DF_HD void prefetch(const V* from, int64_t count) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(V));
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(from + i);
}

// x in every lane. Subtracting 0 changes no value, so only the broadcast is left.
template <typename T>
DF_HD Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

}  // namespace
}  // namespace densefield::simd
