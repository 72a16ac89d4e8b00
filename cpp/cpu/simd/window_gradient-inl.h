// The reverse pass of the window kernel, maths §5 "Gradients" and §6. Part of window-inl.h.
#pragma once

#include "../../core/softmax.h"
#include "../../core/window.h"
#include "lanes-inl.h"
#include "window_kernels.h"

namespace densefield::simd {
namespace {

// Taps neighbouring taps at once: a vector of gradients is loaded once for all of them.
template <typename T, int Taps>
void add_products_of(const WindowProducts<T>& row, int64_t first) {
  for (int64_t x = 0; x < row.width; x += kLanes<T>) {
    Vec<T> sum[Taps] = {};
    const T* gradient = row.gradient + x;
    const T* value = row.values + first + x;
    for (int64_t c = 0; c < row.num_channels; ++c, gradient += row.pitch, value += row.pitch) {
      const Vec<T> g = load_unaligned(gradient);
#pragma GCC unroll 8
      for (int t = 0; t < Taps; ++t) sum[t] += g * load_unaligned(value + t);
    }
    T* out = row.out + first * row.pitch + x;
    for (int t = 0; t < Taps; ++t)
      store_unaligned(out + t * row.pitch, load_unaligned(out + t * row.pitch) + sum[t]);
  }
}

template <typename T>
void add_products(const WindowProducts<T>& row) {
  constexpr int64_t kPart = 8;
  int64_t first = 0;
  for (; row.num_taps - first > kPart; first += kPart) add_products_of<T, kPart>(row, first);
  switch (row.num_taps - first) {
    case 1: return add_products_of<T, 1>(row, first);
    case 3: return add_products_of<T, 3>(row, first);
    case 5: return add_products_of<T, 5>(row, first);
    default: return add_products_of<T, 7>(row, first);
  }
}

template <typename T>
void add_scale_sums(const WindowScaleTap<T>& tap) {
  for (int64_t x = 0; x < tap.width; x += kLanes<T>) {
    const Vec<T> g = load_unaligned(tap.kernel + x);
    const Vec<T> to = g * load_unaligned(tap.grad + x) * load_unaligned(tap.pre_there + x);
    const Vec<T> from =
        g * load_unaligned(tap.grad_opposite + x) * load_unaligned(tap.post_there + x);
    store_unaligned(tap.grad_post + x, load_unaligned(tap.grad_post + x) + to);
    store_unaligned(tap.grad_pre + x, load_unaligned(tap.grad_pre + x) + from);
  }
}

template <typename T>
void add_feature_sums(const WindowFeatureTap<T>& tap) {
  Vec<T> total = {};
  for (int64_t x = 0; x < tap.width; x += kLanes<T>) {
    const Vec<T> by_weight = window_pair_gradient(
        load_unaligned(tap.grad + x), load_unaligned(tap.grad_opposite + x),
        load_unaligned(tap.pre + x) * load_unaligned(tap.post_there + x),
        load_unaligned(tap.post + x) * load_unaligned(tap.pre_there + x), tap.scale);
    const Vec<T> share =
        window_pair_share(load_unaligned(tap.kernel + x), by_weight, load_unaligned(tap.norm + x),
                          load_unaligned(tap.norm_there + x));
    store_unaligned(tap.share + x, share);
    total += share;
  }
  tap.sums[0] = double(fold_sum(total)[0]);
  for (int c = 0; c < tap.num_channels; ++c) {
    Vec<T> squares = {};
    for (int64_t x = 0; x < tap.width; x += kLanes<T>) {
      const Vec<T> step = load_unaligned(tap.there[c] + x) - load_unaligned(tap.here[c] + x);
      const Vec<T> product = load_unaligned(tap.share + x) * step;
      squares += product * step;
      T* to = tap.grad_feature + c * tap.feature_pitch + x;
      store_unaligned(to, load_unaligned(to) + product);
    }
    tap.sums[1 + c] = double(fold_sum(squares)[0]);
  }
}

// grad_q -= A^T r and sums(l, l') -= r(l) q(l'), for one node.
template <typename T>
DF_HD void reverse_compatibility(const WindowReversePart<T>& part, int64_t num_labels,
                                 int64_t stride, const T* r, const T* q, T* grad_q, T* sums) {
  for (int64_t c = 0; c < stride; c += kLanes<T>) {
    const Vec<T> value = load_unaligned(r + c);
    Vec<T> grad = load_unaligned(grad_q + c);
    if (part.form == CompatibilityForm::scalar) grad -= value * part.transposed[0];
    if (part.form == CompatibilityForm::vector) grad -= value * load_unaligned(part.transposed + c);
    if (part.form != CompatibilityForm::matrix)
      store_unaligned(sums + c, load_unaligned(sums + c) - value * load_unaligned(q + c));
    else
      for (int64_t l = 0; l < num_labels; ++l) {
        const Vec<T> share = broadcast(r[l]);
        T* sum = sums + l * stride + c;
        grad -= share * load_unaligned(part.transposed + l * stride + c);
        store_unaligned(sum, load_unaligned(sum) - share * load_unaligned(q + c));
      }
    store_unaligned(grad_q + c, grad);
  }
}

template <typename T>
DF_HD void reverse_softmax(int64_t stride, const T* q, const T* grad_q, T* grad_scores,
                           T* grad_unary) {
  Vec<T> mean = {};
  for (int64_t c = 0; c < stride; c += kLanes<T>)
    mean += load_unaligned(q + c) * load_unaligned(grad_q + c);
  mean = fold_sum(mean);
  for (int64_t c = 0; c < stride; c += kLanes<T>) {
    const Vec<T> grad = softmax_gradient(load_unaligned(q + c), load_unaligned(grad_q + c), mean);
    store_unaligned(grad_scores + c, grad);
    store_unaligned(grad_unary + c, load_unaligned(grad_unary + c) - grad);
  }
}

// Nodes one after another. scratch: [2, stride].
template <typename T>
void reverse_rows(const WindowReverseRows<T>& rows) {
  const int64_t stride = rows.stride;
  T *grad_q = rows.scratch, *filtered = rows.scratch + stride;
  for (int64_t i = 0; i < rows.count; ++i) {
    T* grad_scores = rows.grad_scores + i * stride;
    const T* q = rows.marginals + i * stride;
    for (int64_t c = 0; c < stride; c += kLanes<T>)
      store_unaligned(grad_q + c, rows.num_parts == 0 ? load_unaligned(grad_scores + c) : Vec<T>{});
    for (int m = 0; m < rows.num_parts; ++m) {
      const WindowReversePart<T>& part = rows.parts[m];
      const T self = part.self == nullptr ? T(0) : part.self[i];
      for (int64_t c = 0; c < stride; c += kLanes<T>)
        store_unaligned(filtered + c, load_unaligned(part.filtered + i * stride + c) -
                                          self * load_unaligned(grad_scores + c));
      reverse_compatibility(part, rows.num_labels, stride, filtered, q, grad_q, part.sums);
    }
    if (rows.has_softmax)
      reverse_softmax(stride, q, grad_q, grad_scores, rows.grad_unary + i * stride);
    else
      for (int64_t c = 0; c < stride; c += kLanes<T>)
        store_unaligned(grad_scores + c, load_unaligned(grad_q + c));
  }
}

}  // namespace
}  // namespace densefield::simd
