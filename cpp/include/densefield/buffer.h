// Memory of a backend: the host's, or a device's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "densefield/error.h"

namespace densefield {

class Memory {
 public:
  virtual ~Memory() = default;
  // At least 64-byte aligned, not cleared. Throws Error (memory) with the number of bytes.
  virtual void* allocate(std::size_t num_bytes) = 0;
  virtual void release(void* ptr) noexcept = 0;
};

// The host's memory: what the CPU backend uses.
Memory& host_memory();

// A fixed number of elements that are not initialised.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Memory& memory, int64_t size)
      : memory_(&memory),
        data_(static_cast<T*>(memory.allocate(checked_bytes(size)))),
        size_(size) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) memory_->release(data_);
  }

  // A size that overflowed in the caller's product is negative or beyond any machine's memory.
  static std::size_t checked_bytes(int64_t size) {
    constexpr int64_t kMost = INT64_MAX / static_cast<int64_t>(sizeof(T)) / 2;
    if (size < 0 || size > kMost)
      throw Error(Error::Kind::memory,
                  "not enough memory: " + std::to_string(size) + " elements are needed at once");
    return static_cast<std::size_t>(size) * sizeof(T);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }
  int64_t num_bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }
  bool is_empty() const { return size_ == 0; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  Memory* memory_ = nullptr;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace densefield
