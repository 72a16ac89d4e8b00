// Normalisation of a kernel, maths §3.
#pragma once

#include "densefield/normalization.h"
#include "portable.h"

namespace densefield {

DF_HD float square_root_of(float x) { return __builtin_sqrtf(x); }
DF_HD double square_root_of(double x) { return __builtin_sqrt(x); }

// The scale of one node from n = (K 1)_i: 1 / (n + 1e-20) or its square root. The constant
// is below the smallest n that a lattice or a window can give; it keeps n = 0 finite.
template <typename T>
DF_HD T normalization_scale(T n, bool square_root) {
  const T inverse = T(1) / (n + T(1e-20));
  return square_root ? square_root_of(inverse) : inverse;
}

// What a kernel's two scales of one node are made of: s = normalization_scale(n) at most twice,
// and the slice scale in `post`.
template <typename T>
struct ScaleRule {
  bool scales_pre;   // pre = s, else 1
  bool scales_post;  // post = slice_scale * s, else slice_scale
  bool square_root;
  T slice_scale;
};

template <typename T>
DF_HD ScaleRule<T> scale_rule(Normalization mode, T slice_scale) {
  return {mode == Normalization::before || mode == Normalization::symmetric,
          mode == Normalization::after || mode == Normalization::symmetric,
          mode == Normalization::symmetric, slice_scale};
}

// From the gradient by a node's self = K_ii pre post to those by the three, where K_ii and post
// both contain the slice scale.
template <typename T>
struct SelfGradient {
  T diagonal;
  T pre;
  T post;
};
template <typename T>
DF_HD SelfGradient<T> self_gradient(T slice_scale, T grad_self, T diagonal, T pre, T post) {
  const T grad = grad_self / slice_scale;
  return {grad * pre * post, grad * diagonal * post, grad * diagonal * pre};
}

// Gradient by n from those by pre and post.
template <typename T>
DF_HD T normalization_gradient(const ScaleRule<T>& rule, T pre, T post, T grad_pre, T grad_post) {
  if (!rule.scales_pre && !rule.scales_post) return T(0);
  const T s = rule.scales_pre ? pre : post / rule.slice_scale;
  const T grad_s = (rule.scales_pre ? grad_pre : T(0)) +
                   (rule.scales_post ? rule.slice_scale * grad_post : T(0));
  return rule.square_root ? T(-0.5) * s * s * s * grad_s : -(s * s) * grad_s;
}

}  // namespace densefield
