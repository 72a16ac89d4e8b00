// Asks for memory that is used soon. Inlined by force: GCC takes a function that only prefetches
// for one without effect.
#pragma once

#include <cstdint>

#include "densefield/view.h"
#include "layout.h"

namespace densefield::cpu {

enum class Use { read, write };

template <Use kUse, typename T>
__attribute__((always_inline)) inline void prefetch_values(T* values, int64_t count) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(values + i, kUse == Use::write);
}

// Of neighbouring nodes in the caller's array: one short piece per channel is too much for the
// processor's own prefetcher.
template <Use kUse, typename T>
__attribute__((always_inline)) inline void prefetch_run(NodeView<T> view, const Run& run) {
  if (view.node_stride != 1) return;
  for (int64_t c = 0; c < view.num_channels; ++c) {
    prefetch_values<kUse>(&view.at(c, run.node), run.length);
    __builtin_prefetch(&view.at(c, run.node + run.length - 1), kUse == Use::write);
  }
}

}  // namespace densefield::cpu
