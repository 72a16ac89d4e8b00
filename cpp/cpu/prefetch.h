// Asks for the values of neighbouring nodes in the caller's array: one short piece per channel
// is too much for the processor's own prefetcher.
#pragma once

#include "densefield/view.h"
#include "layout.h"

namespace densefield::cpu {

enum class Use { read, write };

// Inlined by force: GCC takes a function that only prefetches for one without effect.
template <Use kUse, typename T>
__attribute__((always_inline)) inline void prefetch_run(NodeView<T> view, const Run& run) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  if (view.node_stride != 1) return;
  for (int64_t c = 0; c < view.num_channels; ++c) {
    for (int64_t p = 0; p < run.length; p += kLine)
      __builtin_prefetch(&view.at(c, run.node + p), kUse == Use::write);
    __builtin_prefetch(&view.at(c, run.node + run.length - 1), kUse == Use::write);
  }
}

}  // namespace densefield::cpu
