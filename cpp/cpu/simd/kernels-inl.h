// The inner loops, compiled once per instruction set: each kernels_<level>.cpp includes this
// file. Everything has internal linkage, so no level's code can stand in for another's.
#pragma once

#include "../../core/blur.h"
#include "../../core/softmax.h"
#include "kernels.h"
#include "lanes-inl.h"

namespace densefield::simd {
namespace {

// A padded row of NV vectors in registers, or, as Row<T, 0>, of any number in memory.
// Both are used alike: `storage` and `size` matter to the second only, which lives in its
// storage, so that restoring and saving matter to the first only.
template <typename T, int NV>
struct Row {
  Row(T* /*storage*/, int64_t /*size*/) {}
  static constexpr int size() { return NV; }
  DF_HD Vec<T> get(int v) const { return v_[v]; }
  DF_HD void set(int v, Vec<T> x) { v_[v] = x; }
  DF_HD void restore(const T* from) {
    for (int v = 0; v < NV; ++v) v_[v] = load(from + v * kLanes<T>);
  }
  DF_HD void save(T* to) const {
    for (int v = 0; v < NV; ++v) store(to + v * kLanes<T>, v_[v]);
  }

 private:
  Vec<T> v_[NV];
};
template <typename T>
struct Row<T, 0> {
  Row(T* storage, int64_t size) : data_(storage), size_(static_cast<int>(size)) {}
  DF_HD int size() const { return size_; }
  DF_HD Vec<T> get(int v) const { return load(data_ + v * kLanes<T>); }
  DF_HD void set(int v, Vec<T> x) { store(data_ + v * kLanes<T>, x); }
  DF_HD void restore(const T* /*storage*/) const {}
  DF_HD void save(T* /*storage*/) const {}

 private:
  T* data_;
  int size_;
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

// row = sum over the corners of weight * vertices[corner].
template <typename T, typename R>
DF_HD void slice_point(const T* weight, const uint16_t* corner, int num_corners, const T* vertices,
                       int64_t stride, R& row) {
  fill(row, [&](int) { return Vec<T>{}; });
  for (int k = 0; k < num_corners; ++k) {
    const Vec<T> w = broadcast(weight[k]);
    const T* vertex = vertices + corner[k] * stride;
    fill(row, [&](int v) { return row.get(v) + w * load(vertex, v); });
  }
}

// sums[corner] += weight * row.
template <typename T, typename R>
DF_HD void splat_point(const T* weight, const uint16_t* corner, int num_corners, const R& row,
                       T* sums, int64_t stride) {
  for (int k = 0; k < num_corners; ++k) {
    const Vec<T> w = broadcast(weight[k]);
    T* sum = sums + corner[k] * stride;
    for (int v = 0; v < row.size(); ++v) store(sum + v * kLanes<T>, load(sum, v) + w * row.get(v));
  }
}

// Calls body with std::integral_constant<int, n> and an offset for each piece of a row.
template <typename T, typename Body>
DF_HD void for_pieces(int64_t stride, Body body) {
  int64_t offset = 0;
  for (; stride - offset >= kMaxVectors * kLanes<T>; offset += kMaxVectors * kLanes<T>)
    body(std::integral_constant<int, kMaxVectors>{}, offset);
  switch ((stride - offset) / kLanes<T>) {
    case 3: body(std::integral_constant<int, 3>{}, offset); break;
    case 2: body(std::integral_constant<int, 2>{}, offset); break;
    case 1: body(std::integral_constant<int, 1>{}, offset); break;
    default: break;
  }
}

template <typename T>
void splat(const BlockCorners<T>& points, const T* rows, const T* pre, T* sums, int64_t stride) {
  const int corners = points.num_corners;
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    Row<T, nv> row(nullptr, nv);
    for (int64_t i = 0; i < points.count; ++i) {
      const T* from = rows + i * stride + offset;
      const T factor = pre != nullptr ? pre[i] : T(1);
      fill(row, [&](int v) { return factor * load(from, v); });
      splat_point(points.weight + i * corners, points.corner + i * corners, corners, row,
                  sums + offset, stride);
    }
  });
}

template <typename T>
void slice(const BlockCorners<T>& points, const T* vertices, const T* post, T scale, T* rows,
           int64_t stride) {
  const int corners = points.num_corners;
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    Row<T, nv> row(nullptr, nv);
    for (int64_t i = 0; i < points.count; ++i) {
      slice_point(points.weight + i * corners, points.corner + i * corners, corners,
                  vertices + offset, stride, row);
      const T factor = post != nullptr ? scale * post[i] : scale;
      T* to = rows + i * stride + offset;
      for (int v = 0; v < nv; ++v) {
        store(to + v * kLanes<T>, factor * row.get(v));
      }
    }
  });
}

template <typename T>
void gather_rows(const int32_t* index, int64_t count, const T* from, T* to, int64_t stride) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    for (int64_t i = 0; i < count; ++i)
      for (int v = 0; v < nv; ++v)
        store(to + i * stride + offset + v * kLanes<T>, load(from + index[i] * stride + offset, v));
  });
}

template <typename T>
void sum_rows(const int64_t* start, const int32_t* member, int64_t begin, int64_t end,
              const T* from, T* to, int64_t stride) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    for (int64_t i = begin; i < end; ++i) {
      Row<T, nv> sum(nullptr, nv);
      fill(sum, [&](int) { return Vec<T>{}; });
      for (int64_t m = start[i]; m < start[i + 1]; ++m) {
        const T* row = from + member[m] * stride + offset;
        fill(sum, [&](int v) { return sum.get(v) + load(row, v); });
      }
      for (int v = 0; v < nv; ++v) store(to + i * stride + offset + v * kLanes<T>, sum.get(v));
    }
  });
}

template <typename T>
void join_rows(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end, T* rows,
               int64_t stride) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    for (int64_t i = begin; i < end; ++i) {
      T* home = rows + slot[start[i]] * stride + offset;
      Row<T, nv> sum(nullptr, nv);
      sum.restore(home);
      for (int64_t m = start[i] + 1; m < start[i + 1]; ++m) {
        const T* row = rows + slot[m] * stride + offset;
        fill(sum, [&](int v) { return sum.get(v) + load(row, v); });
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
      for (int64_t m = start[i] + 1; m < start[i + 1]; ++m)
        home.save(rows + slot[m] * stride + offset);
    }
  });
}

// The rows of a chain lie anywhere in memory, and the order is known in advance: on textured
// images, where they do not fit the cache, asking for them early halves the time.
constexpr int64_t kPrefetchAhead = 12;

// A missing neighbour, before the first and behind the last of a chain, counts as 0.
template <typename T>
void blur_chains(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end, T* rows,
                 int64_t stride) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    for (int64_t i = begin; i < end; ++i) {
      Row<T, nv> left(nullptr, nv), centre(nullptr, nv), right(nullptr, nv);
      fill(left, [](int) { return Vec<T>{}; });
      centre.restore(rows + slot[start[i]] * stride + offset);
      for (int64_t m = start[i]; m < start[i + 1]; ++m) {
        if (m + kPrefetchAhead < start[end]) {
          const T* later = rows + slot[m + kPrefetchAhead] * stride + offset;
          __builtin_prefetch(later, 1);
          __builtin_prefetch(later + nv * kLanes<T> - 1, 1);
        }
        if (m + 1 < start[i + 1])
          right.restore(rows + slot[m + 1] * stride + offset);
        else
          fill(right, [](int) { return Vec<T>{}; });
        T* out = rows + slot[m] * stride + offset;
        for (int v = 0; v < nv; ++v)
          store(out + v * kLanes<T>, blur_tap(left.get(v), centre.get(v), right.get(v)));
        left = centre;
        centre = right;
      }
    }
  });
}

template <typename T>
void filter_axis(const AxisFilter<T>& filter, const T* from, T* to) {
  const int64_t stride = filter.stride, pitch = filter.pitch;
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    for (int64_t i = filter.begin; i < filter.end; ++i) {
      const int64_t position = i / pitch % filter.extent;
      const T* centre = from + i * stride + offset;
      Row<T, nv> sum(nullptr, nv);
      fill(sum, [&](int v) { return filter.tap[0] * load(centre, v); });
      for (int64_t r = 1; r < filter.num_taps; ++r) {
        const T tap = filter.tap[r];
        const int64_t step = r * pitch * stride;
        const bool has_before = r <= position, has_behind = r < filter.extent - position;
        if (has_before && has_behind)
          fill(sum, [&](int v) {
            return sum.get(v) + tap * (load(centre - step, v) + load(centre + step, v));
          });
        else if (has_before)
          fill(sum, [&](int v) { return sum.get(v) + tap * load(centre - step, v); });
        else if (has_behind)
          fill(sum, [&](int v) { return sum.get(v) + tap * load(centre + step, v); });
      }
      sum.save(to + i * stride + offset);
    }
  });
}

}  // namespace
}  // namespace densefield::simd

#include "pass-inl.h"
#include "transpose-inl.h"

namespace densefield::simd {
namespace {

template <typename T>
Kernels<T> make_kernels(decltype(Kernels<T>::embed) embed) {
  return {embed,         &splat<T>,       &slice<T>,       &gather_rows<T>,     &sum_rows<T>,
          &join_rows<T>, &spread_rows<T>, &blur_chains<T>, &mean_field_pass<T>, &filter_axis<T>,
          &load_rows<T>, &store_rows<T>};
}

}  // namespace
}  // namespace densefield::simd
