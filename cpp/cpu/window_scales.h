// The scales of a normalised window kernel, maths §3.
#pragma once

#include <algorithm>

#include "../core/normalization.h"
#include "window_features.h"
#include "window_table.h"

namespace densefield::cpu {

// n = K 1 at the nodes. In window_build.cpp.
template <typename T>
Buffer<T> window_sums(const CpuWindowTable<T>& table, const WindowFeatures<T>& features);

// What stands at the two sides of a kernel at the nodes, with margins of 0.
template <typename T>
struct NodeScales {
  NodeScales(const CpuWindowTable<T>& table, const WindowFeatures<T>& features, Normalization mode)
      : margin(table.margin()),
        pre(host_memory(), table.num_nodes() + 2 * margin),
        post(host_memory(), pre.size()) {
    std::fill_n(pre.data(), pre.size(), T(0));
    std::fill_n(post.data(), post.size(), T(0));
    const ScaleRule<T> rule = scale_rule(mode, T(1));
    Buffer<T> sums;
    if (mode != Normalization::none) sums = window_sums(table, features);
    for (int64_t i = 0; i < table.num_nodes(); ++i) {
      const T scale = sums.is_empty() ? T(1) : normalization_scale(sums[i], rule.square_root);
      pre[margin + i] = rule.scales_pre ? scale : T(1);
      post[margin + i] = rule.scales_post ? scale : T(1);
    }
  }

  int64_t margin;
  Buffer<T> pre;
  Buffer<T> post;
};

}  // namespace densefield::cpu
