// Users' arrays on a device: what it takes, beside the Backend, to read them where they lie and to
// hand results out in the order of the caller's stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
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

// The published options of ConvCRF, maths §5. Arrays are channels first, [C, N], of one type,
// float32 or float64; only that of the unary and its gradient may have strides.
struct WeightedUnary {
  StridedArray log_p;              // contiguous
  std::span<const double> weight;  // [C]
  bool starts_from_log;            // else the first message is computed of p
};

// A moment in the order of a stream.
class DeviceEvent {
 public:
  virtual ~DeviceEvent() = default;
  // Waits for both.
  virtual double milliseconds_since(const DeviceEvent& earlier) const = 0;
};

// Work that was recorded instead of done.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  // Does it once, on the stream that it was recorded on.
  virtual void launch() const = 0;
  // Launches of kernels, and whatever else the device does one after another.
  virtual int64_t num_steps() const = 0;
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

  // Writes log_p, the weighted energies, and p unless the start is log_p; both [C, N] contiguous.
  virtual void weight_unary(const StridedArray& unary, const WeightedUnary&,
                            const StridedArray& weighted, const StridedArray& start) const = 0;
  // The way back; grad_unary without data is not wanted. Waits for the stream.
  virtual void weighted_unary_gradient(const WeightedUnary&, const StridedArray& grad_weighted,
                                       const StridedArray& grad_start,
                                       const StridedArray& grad_unary,
                                       double* grad_weight) const = 0;  // [C] out

  virtual std::unique_ptr<DeviceEvent> record_event() const = 0;
  // From here to the end of the recording, what is asked of the stream is not done but kept.
  virtual void begin_recording() const = 0;
  // Throws Error (runtime) if something was asked that cannot be recorded, waiting above all.
  virtual std::unique_ptr<DeviceGraph> end_recording() const = 0;
};

}  // namespace densefield
