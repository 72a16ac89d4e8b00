#pragma once

#include <algorithm>

#include "densefield/threads.h"

namespace densefield::cpu {

// Calls body(begin, end) for pieces of 0 .. count-1, in parallel.
template <typename Body>
void for_vertex_tasks(int64_t count, Body body) {
  constexpr int64_t kGrain = 1024;  // rows per task: some 10 us
  parallel_for((count + kGrain - 1) / kGrain, [&](int64_t task, int) {
    body(task * kGrain, std::min(count, (task + 1) * kGrain));
  });
}

}  // namespace densefield::cpu
