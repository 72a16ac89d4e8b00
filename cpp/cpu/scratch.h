// Memory that is kept and grows, so that loops do not allocate.
#pragma once

#include <algorithm>

#include "densefield/buffer.h"

namespace densefield::cpu {

// At least `size` elements. They lose what they held if there were fewer.
template <typename T>
T* grown(Buffer<T>& buffer, int64_t size) {
  if (buffer.size() < size) buffer = Buffer<T>(host_memory(), size);
  return buffer.data();
}

// At least `size` elements, 64-byte aligned, valid until this thread's next call with the
// same T and Tag. Grows to the largest block seen and is freed with the thread.
template <typename T, typename Tag>
T* thread_scratch(int64_t size) {
  thread_local Buffer<T> buffer;
  return grown(buffer, size);
}

}  // namespace densefield::cpu
