// Memory that a thread keeps between tasks, so that loops do not allocate.
#pragma once

#include <algorithm>

#include "densefield/buffer.h"

namespace densefield::cpu {

// At least `size` elements, 64-byte aligned, valid until this thread's next call with the
// same T and Tag. Grows to the largest block seen and is freed with the thread.
template <typename T, typename Tag>
T* thread_scratch(int64_t size) {
  thread_local Buffer<T> buffer;
  if (buffer.size() < size) buffer = Buffer<T>(host_memory(), size);
  return buffer.data();
}

}  // namespace densefield::cpu
