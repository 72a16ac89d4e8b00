// The inner loops, compiled once per instruction set: each kernels_<level>.cpp includes this
// file. Everything has internal linkage, so no level's code can stand in for another's.
#pragma once

#include "../../core/blur.h"
#include "../../core/softmax.h"
#include "kernels.h"
#include "lanes-inl.h"

namespace densefield::simd {
namespace {

// A row without padding that holds one value.
constexpr int kSingle = -1;

// A padded row of NV vectors in registers, or, as Row<T, 0>, of any number in memory; or, as
// Row<T, kSingle>, one value. All are used alike: `storage` and `size` matter to the second
// only, which lives in its storage, so that restoring and saving do not matter to it.
template <typename T, int NV>
struct Row {
  using V = Vec<T>;
  Row(T* /*storage*/, int64_t /*size*/) {}
  static constexpr int size() { return NV; }
  static DF_HD V load(const T* from, int v) { return simd::load(from + v * kLanes<T>); }
  static DF_HD void store(T* to, int v, V x) { simd::store(to + v * kLanes<T>, x); }
  static DF_HD V broadcast(T x) { return simd::broadcast(x); }
  DF_HD V get(int v) const { return v_[v]; }
  DF_HD void set(int v, V x) { v_[v] = x; }
  DF_HD void restore(const T* from) {
    for (int v = 0; v < NV; ++v) v_[v] = load(from, v);
  }
  DF_HD void save(T* to) const {
    for (int v = 0; v < NV; ++v) store(to, v, v_[v]);
  }

 private:
  V v_[NV];
};
template <typename T>
struct Row<T, 0> {
  using V = Vec<T>;
  Row(T* storage, int64_t size) : data_(storage), size_(static_cast<int>(size)) {}
  DF_HD int size() const { return size_; }
  static DF_HD V load(const T* from, int v) { return simd::load(from + v * kLanes<T>); }
  static DF_HD void store(T* to, int v, V x) { simd::store(to + v * kLanes<T>, x); }
  static DF_HD V broadcast(T x) { return simd::broadcast(x); }
  DF_HD V get(int v) const { return load(data_, v); }
  DF_HD void set(int v, V x) { store(data_, v, x); }
  DF_HD void restore(const T* /*storage*/) const {}
  DF_HD void save(T* /*storage*/) const {}

 private:
  T* data_;
  int size_;
};
template <typename T>
struct Row<T, kSingle> {
  using V = T;
  Row(T* /*storage*/, int64_t /*size*/) {}
  static constexpr int size() { return 1; }
  static DF_HD V load(const T* from, int /*v*/) { return *from; }
  static DF_HD void store(T* to, int /*v*/, V x) { *to = x; }
  static DF_HD V broadcast(T x) { return x; }
  DF_HD V get(int /*v*/) const { return value_; }
  DF_HD void set(int /*v*/, V x) { value_ = x; }
  DF_HD void restore(const T* from) { value_ = *from; }
  DF_HD void save(T* to) const { *to = value_; }

 private:
  T value_;
};

// row[v] = body(v) for every vector of the row.
template <typename R, typename Body>
DF_HD void fill(R& row, Body body) {
  for (int v = 0; v < row.size(); ++v) row.set(v, body(v));
}
template <typename T>
DF_HD Vec<T> load(const T* from, int v) {
  return load(from + v * kLanes<T>);
}

// The longest row that is kept in registers; longer ones are worked on in pieces or in memory.
constexpr int kMaxVectors = 4;

// Loops for one size each are for what is used most: the lowest level of a family that has
// higher ones does without.
#if defined(__x86_64__) && !defined(__AVX2__)
constexpr bool kIsUsualLevel = false;
#else
constexpr bool kIsUsualLevel = true;
#endif

// Calls step with the number of corners as a constant for the dimensions of images and
// volumes, and with 0 for others.
template <typename T, typename Step>
DF_HD void with_corners(int num_corners, Step step) {
  if constexpr (kIsUsualLevel && sizeof(T) == 4) switch (num_corners) {
      case 3: return step(std::integral_constant<int, 3>{});
      case 5: return step(std::integral_constant<int, 5>{});
      case 6: return step(std::integral_constant<int, 6>{});
      default: break;
    }
  step(std::integral_constant<int, 0>{});
}

// Calls step with a number of vectors that registers hold, 1 to kMaxVectors, as a constant.
template <typename Step>
DF_HD void with_size(int64_t size, Step step) {
  static_assert(kMaxVectors == 4);
  switch (size) {
    case 1: return step(std::integral_constant<int, 1>{});
    case 2: return step(std::integral_constant<int, 2>{});
    case 3: return step(std::integral_constant<int, 3>{});
    case 4: return step(std::integral_constant<int, 4>{});
    default: return;
  }
}

// Calls step with the vectors of a row as a constant where a row is kept in registers, and with
// 0 for others.
template <typename T, typename Step>
DF_HD void with_vectors(int64_t stride, Step step) {
  const int64_t size = stride / kLanes<T>;
  if constexpr (kIsUsualLevel)
    if (size >= 1 && size <= kMaxVectors) return with_size(size, step);
  step(std::integral_constant<int, 0>{});
}

// row = sum over the corners of weight * vertices[corner].
template <typename T, typename R>
DF_HD void slice_point(const T* weight, const uint16_t* corner, int num_corners, const T* vertices,
                       int64_t stride, R& row) {
  fill(row, [&](int) { return R::broadcast(T(0)); });
  for (int k = 0; k < num_corners; ++k) {
    const auto w = R::broadcast(weight[k]);
    const T* vertex = vertices + corner[k] * stride;
    fill(row, [&](int v) { return row.get(v) + w * R::load(vertex, v); });
  }
}

// sums[corner] += weight * row.
template <typename T, typename R>
DF_HD void splat_point(const T* weight, const uint16_t* corner, int num_corners, const R& row,
                       T* sums, int64_t stride) {
  for (int k = 0; k < num_corners; ++k) {
    const auto w = R::broadcast(weight[k]);
    T* sum = sums + corner[k] * stride;
    for (int v = 0; v < row.size(); ++v) R::store(sum, v, R::load(sum, v) + w * row.get(v));
  }
}

// row -= the sum of share[l] * column l of a table, each `stride` behind the one before.
template <typename T, typename R>
DF_HD void subtract_columns(const T* table, const T* share, int64_t num_labels, int64_t stride,
                            R& row) {
  for (int64_t label = 0; label < num_labels; ++label) {
    const T factor = share[label];
    const T* column = table + label * stride;
    fill(row, [&](int v) { return row.get(v) - factor * load(column, v); });
  }
}

// Calls body with std::integral_constant<int, n> and an offset for each piece of a row, n vectors
// from there on: as few pieces as registers allow, all of about one length.
template <typename T, typename Body>
DF_HD void for_vector_pieces(int64_t stride, Body body) {
  for (int64_t offset = 0; offset < stride;) {
    const int64_t rest = (stride - offset) / kLanes<T>;
    const int64_t pieces = (rest + kMaxVectors - 1) / kMaxVectors;
    const int64_t size = (rest + pieces - 1) / pieces;
    with_size(size, [&](auto nv) { body(nv, offset); });
    offset += size * kLanes<T>;
  }
}
// The same for rows of NV vectors, which are short enough for one piece; NV = 0: of any length.
template <typename T, int NV, typename Body>
DF_HD void for_row_pieces(int64_t stride, Body body) {
  if constexpr (NV > 0)
    body(std::integral_constant<int, NV>{}, int64_t{0});
  else
    for_vector_pieces<T>(stride, body);
}
// And for rows that may be single values.
template <typename T, typename Body>
DF_HD void for_pieces(int64_t stride, Body body) {
  if (stride == 1) return body(std::integral_constant<int, kSingle>{}, int64_t{0});
  for_vector_pieces<T>(stride, body);
}

// The same with the number of corners, step(nv, corners, stride, offset), all constant where they
// are of use: a single value's row lies where its number says.
template <typename T, typename Step>
DF_HD void for_corner_pieces(int num_corners, int64_t stride, Step step) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    with_corners<T>(num_corners, [&](auto k) {
      step(nv, k > 0 ? int{k} : num_corners, nv == kSingle ? 1 : stride, offset);
    });
  });
}

template <typename T>
void splat(const BlockCorners<T>& points, const T* rows, const T* pre, T* sums, int64_t stride) {
  const auto step = [&](auto nv, int corners, int64_t pitch, int64_t offset) {
    using R = Row<T, nv>;
    R row(nullptr, nv);
    for (int64_t i = 0; i < points.count; ++i) {
      const T* from = rows + i * pitch + offset;
      const T factor = pre != nullptr ? pre[i] : T(1);
      fill(row, [&](int v) { return factor * R::load(from, v); });
      splat_point(points.weight + i * corners, points.corner + i * corners, corners, row,
                  sums + offset, pitch);
    }
  };
  for_corner_pieces<T>(points.num_corners, stride, step);
}

template <typename T>
void slice(const BlockCorners<T>& points, const T* vertices, const T* post, T scale, T* rows,
           int64_t stride) {
  const auto step = [&](auto nv, int corners, int64_t pitch, int64_t offset) {
    using R = Row<T, nv>;
    R row(nullptr, nv);
    for (int64_t i = 0; i < points.count; ++i) {
      slice_point(points.weight + i * corners, points.corner + i * corners, corners,
                  vertices + offset, pitch, row);
      const T factor = post != nullptr ? scale * post[i] : scale;
      fill(row, [&](int v) { return factor * row.get(v); });
      row.save(rows + i * pitch + offset);
    }
  };
  for_corner_pieces<T>(points.num_corners, stride, step);
}

// Asks for the row that comes some slots after slot[m], NV vectors of it. Rows of vertices lie
// anywhere in memory, but their order is known: on textured images, where they do not fit the
// cache, asking early halves the time.
template <typename T, int NV>
DF_HD void prefetch_later(const int32_t* slot, int64_t m, int64_t end, const T* rows,
                          int64_t stride) {
  constexpr int64_t kAhead = 12;
  if (m + kAhead >= end) return;
  const T* later = rows + slot[m + kAhead] * stride;
  __builtin_prefetch(later, 1);
  if (NV > 1) __builtin_prefetch(later + NV * kLanes<T> - 1, 1);
}

template <typename T>
void join_rows(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end, T* rows,
               int64_t stride) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    using R = Row<T, nv>;
    for (int64_t i = begin; i < end; ++i) {
      T* home = rows + slot[start[i]] * stride + offset;
      R sum(nullptr, nv);
      sum.restore(home);
      prefetch_later<T, nv>(slot, start[i], start[end], rows + offset, stride);
      for (int64_t m = start[i] + 1; m < start[i + 1]; ++m) {
        prefetch_later<T, nv>(slot, m, start[end], rows + offset, stride);
        const T* row = rows + slot[m] * stride + offset;
        fill(sum, [&](int v) { return sum.get(v) + R::load(row, v); });
      }
      sum.save(home);
    }
  });
}

template <typename T>
void spread_rows(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end, T* rows,
                 int64_t stride) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    for (int64_t i = begin; i < end; ++i) {
      Row<T, nv> home(nullptr, nv);
      home.restore(rows + slot[start[i]] * stride + offset);
      prefetch_later<T, nv>(slot, start[i], start[end], rows + offset, stride);
      for (int64_t m = start[i] + 1; m < start[i + 1]; ++m) {
        prefetch_later<T, nv>(slot, m, start[end], rows + offset, stride);
        home.save(rows + slot[m] * stride + offset);
      }
    }
  });
}

// A missing neighbour, before the first and behind the last of a chain, counts as 0.
template <typename T>
void blur_chains(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end, T* rows,
                 int64_t stride) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    using R = Row<T, nv>;
    for (int64_t i = begin; i < end; ++i) {
      R left(nullptr, nv), centre(nullptr, nv), right(nullptr, nv);
      fill(left, [](int) { return R::broadcast(T(0)); });
      centre.restore(rows + slot[start[i]] * stride + offset);
      for (int64_t m = start[i]; m < start[i + 1]; ++m) {
        prefetch_later<T, nv>(slot, m, start[end], rows + offset, stride);
        if (m + 1 < start[i + 1])
          right.restore(rows + slot[m + 1] * stride + offset);
        else
          fill(right, [](int) { return R::broadcast(T(0)); });
        fill(left, [&](int v) { return blur_tap(left.get(v), centre.get(v), right.get(v)); });
        left.save(rows + slot[m] * stride + offset);
        left = centre;
        centre = right;
      }
    }
  });
}

}  // namespace
}  // namespace densefield::simd

#include "grid-inl.h"
#include "pass-inl.h"
#include "transpose-inl.h"
#include "two_labels-inl.h"

namespace densefield::simd {
namespace {

template <typename T>
Kernels<T> make_kernels(decltype(Kernels<T>::embed) embed) {
  return {embed,           &splat<T>,       &slice<T>,           &join_rows<T>,
          &spread_rows<T>, &blur_chains<T>, &grid_splat<T>,      &grid_slice<T>,
          &add_rows<T>,    &filter_line<T>, &mean_field_pass<T>, &binary_pass<T>,
          &load_rows<T>,   &pack_rows<T>,   &store_rows<T>};
}

}  // namespace
}  // namespace densefield::simd
