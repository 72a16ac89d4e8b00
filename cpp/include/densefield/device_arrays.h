// Users' arrays on a device: what it takes, beside the Backend, to read them where they lie and to
// hand results out in the order of the caller's stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "densefield/buffer.h"

namespace densefield {

enum class ElementType : uint8_t {
  boolean,
  int8,
  uint8,
  int16,
  uint16,
  int32,
  uint32,
  int64,
  uint64,
  float16,
  bfloat16,
  float32,
  float64,
};

constexpr int kMostArrayAxes = 8;

// Element (i_0, i_1, ..) is data[sum of i_a * stride[a]]. Strides count elements and may be
// negative or zero.
struct StridedArray {
  void* data = nullptr;
  ElementType type = ElementType::float32;
  int num_axes = 0;
  int64_t extent[kMostArrayAxes] = {};
  int64_t stride[kMostArrayAxes] = {};

  int64_t size() const {
    int64_t count = 1;
    for (int a = 0; a < num_axes; ++a) count *= extent[a];
    return count;
  }
};

// Of one device and one stream; its functions are asynchronous there but for those that say so.
class DeviceArrays {
 public:
  virtual ~DeviceArrays() = default;

  virtual Memory& memory() = 0;
  virtual void* stream() const = 0;
  // What is asked of this stream from now on waits for all that `other` was asked so far.
  virtual void wait_for(void* other) const = 0;
  // The same the other way round.
  virtual void hold_back(void* other) const = 0;
  // The host waits for the stream.
  virtual void wait() const = 0;

  // The host's array may be given back on return.
  virtual void upload(const void* from, std::size_t num_bytes, void* to) const = 0;
  // Waits for the stream.
  virtual void download(const void* from, std::size_t num_bytes, void* to) const = 0;
  virtual void clear(void* data, std::size_t num_bytes) const = 0;
  // to = factor * from, for arrays of one shape. `to` is float32 or float64.
  virtual void copy(const StridedArray& from, double factor, const StridedArray& to) const = 0;
  // How many values of each array, float32 or float64, are NaN or infinite. Waits for the stream,
  // once for all of them.
  virtual void count_non_finite(std::span<const StridedArray> arrays,
                                int64_t* counts) const = 0;  // [arrays] out
};

}  // namespace densefield
