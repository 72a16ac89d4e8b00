// Products of rows: with a compatibility, with the rows at a point's corners, with each other.
#pragma once

#include "kernels-inl.h"
#include "reverse_kernels.h"

namespace densefield::simd {
namespace {

// to -= table from, for a table of this form, by columns. `from` is a row in memory.
template <typename T, typename R>
DF_HD void subtract_product(CompatibilityForm form, const T* table, int64_t num_labels,
                            const T* from, int64_t stride, R& to) {
  switch (form) {
    case CompatibilityForm::scalar: {
      const Vec<T> scale = broadcast(table[0]);
      fill(to, [&](int v) { return to.get(v) - scale * load(from, v); });
      return;
    }
    case CompatibilityForm::vector:
      fill(to, [&](int v) { return to.get(v) - load(from, v) * load(table, v); });
      return;
    case CompatibilityForm::matrix: subtract_columns(table, from, num_labels, stride, to); return;
  }
}

template <typename T>
void weight_gradient(const BlockCorners<T>& points, const T* rows, const T* vertices, T scale,
                     T* grad_weight, int64_t stride) {
  const int corners = points.num_corners;
  for (int64_t i = 0; i < points.count; ++i) {
    const T* row = rows + i * stride;
    for (int k = 0; k < corners; ++k) {
      const T* vertex = vertices + points.corner[i * corners + k] * stride;
      Vec<T> sum = {};
      for (int64_t c = 0; c < stride; c += kLanes<T>) sum += load(row + c) * load(vertex + c);
      grad_weight[i * corners + k] += scale * fold_sum(sum)[0];
    }
  }
}

template <typename T>
double product(int64_t count, const T* values, const T* gradients, CompatibilityForm form,
               const T* compatibility, int64_t num_labels, T* scratch, int64_t stride) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const T* value = values + i * stride;
    const T* gradient = gradients + i * stride;
    Vec<T> sum = {};
    if (compatibility == nullptr) {
      for (int64_t c = 0; c < stride; c += kLanes<T>) sum += load(value + c) * load(gradient + c);
    } else {
      Row<T, 0> negative(scratch, stride / kLanes<T>);
      fill(negative, [](int) { return Vec<T>{}; });
      subtract_product(form, compatibility, num_labels, value, stride, negative);
      for (int v = 0; v < negative.size(); ++v) sum -= negative.get(v) * load(gradient, v);
    }
    total += double(fold_sum(sum)[0]);
  }
  return total;
}

}  // namespace
}  // namespace densefield::simd
