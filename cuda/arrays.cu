// Users' arrays: conversion of any element type and strides, the count of what is not finite, and
// the order between streams. Limited by memory.
#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "../cpp/core/half.h"
#include "arrays.cuh"
#include "device.cuh"
#include "launch.cuh"
#include "memory.cuh"
#include "recording.cuh"
#include "reduce.cuh"
#include "weighted_unary.cuh"

namespace densefield::cuda {
namespace {

// Axes of two arrays of one shape, the last one fastest.
struct Axes {
  int count;
  int64_t extent[kMostArrayAxes];
  int64_t from[kMostArrayAxes];  // strides
  int64_t to[kMostArrayAxes];
};

struct Places {
  int64_t from, to;
};

__device__ Places places_of(const Axes& axes, int64_t item) {
  Places places{0, 0};
  for (int a = axes.count - 1; a >= 0; --a) {
    const int64_t before = item / axes.extent[a];
    const int64_t index = item - before * axes.extent[a];
    places.from += index * axes.from[a];
    places.to += index * axes.to[a];
    item = before;
  }
  return places;
}

// Axes that lie behind one another in both arrays count as one; those of one entry as none.
Axes merged_axes(const StridedArray& from, const StridedArray& to) {
  Axes axes{};
  for (int a = 0; a < from.num_axes; ++a) {
    const int64_t extent = from.extent[a];
    if (extent == 1) continue;
    const int last = axes.count - 1;
    if (last >= 0 && axes.from[last] == from.stride[a] * extent &&
        axes.to[last] == to.stride[a] * extent) {
      axes.extent[last] *= extent;
      axes.from[last] = from.stride[a];
      axes.to[last] = to.stride[a];
      continue;
    }
    axes.extent[axes.count] = extent;
    axes.from[axes.count] = from.stride[a];
    axes.to[axes.count++] = to.stride[a];
  }
  return axes;
}

// Of the types that results have.
int64_t num_bytes_of(ElementType type) {
  return type == ElementType::float64 ? int64_t{sizeof(double)} : int64_t{sizeof(float)};
}

// How the elements of a type are stored, and what they are as a number.
template <typename T>
struct Plain {
  using Stored = T;
  template <typename To>
  static DF_HD To value(T stored) {
    return static_cast<To>(stored);
  }
};
struct Boolean {
  using Stored = uint8_t;
  template <typename To>
  static DF_HD To value(uint8_t stored) {
    return stored != 0 ? To(1) : To(0);
  }
};
struct Float16 {
  using Stored = uint16_t;
  template <typename To>
  static DF_HD To value(uint16_t stored) {
    return To(float16_value(stored));
  }
};
struct Bfloat16 {
  using Stored = uint16_t;
  template <typename To>
  static DF_HD To value(uint16_t stored) {
    return To(bfloat16_value(stored));
  }
};

template <typename Element, typename To>
__global__ void convert_kernel(const typename Element::Stored* from,  // at axes.from
                               Axes axes, int64_t count, To factor,
                               To* to) {  // at axes.to, out
  const int64_t item = item_of_thread();
  if (item >= count) return;
  const Places places = places_of(axes, item);
  to[places.to] = factor * Element::template value<To>(from[places.from]);
}

template <typename T>
__global__ void count_non_finite_kernel(const T* from,  // at axes.from
                                        Axes axes, int64_t count,
                                        unsigned long long* found) {  // added to
  DF_SHARED(double, shared, kBlock);
  double own = 0;
  for_rows(count, [&](int64_t item) {
    const T value = from[places_of(axes, item).from];
    if (!(value - value == T(0))) own += 1;
  });
  const double sum = sum_of_block(own, shared);
  if (threadIdx.x == 0 && sum > 0) atomicAdd(found, static_cast<unsigned long long>(sum));
}

template <typename Element, typename To>
void convert(const DeviceMemory& memory, const StridedArray& from, double factor,
             const StridedArray& to) {
  launch("convert_kernel", convert_kernel<Element, To>, one_each(to.size()), memory.stream(),
         static_cast<const typename Element::Stored*>(from.data), merged_axes(from, to), to.size(),
         static_cast<To>(factor), static_cast<To*>(to.data));
}

template <typename To>
void convert_to(const DeviceMemory& memory, const StridedArray& from, double factor,
                const StridedArray& to) {
  switch (from.type) {
    case ElementType::boolean: return convert<Boolean, To>(memory, from, factor, to);
    case ElementType::int8: return convert<Plain<int8_t>, To>(memory, from, factor, to);
    case ElementType::uint8: return convert<Plain<uint8_t>, To>(memory, from, factor, to);
    case ElementType::int16: return convert<Plain<int16_t>, To>(memory, from, factor, to);
    case ElementType::uint16: return convert<Plain<uint16_t>, To>(memory, from, factor, to);
    case ElementType::int32: return convert<Plain<int32_t>, To>(memory, from, factor, to);
    case ElementType::uint32: return convert<Plain<uint32_t>, To>(memory, from, factor, to);
    case ElementType::int64: return convert<Plain<int64_t>, To>(memory, from, factor, to);
    case ElementType::uint64: return convert<Plain<uint64_t>, To>(memory, from, factor, to);
    case ElementType::float16: return convert<Float16, To>(memory, from, factor, to);
    case ElementType::bfloat16: return convert<Bfloat16, To>(memory, from, factor, to);
    case ElementType::float32: return convert<Plain<float>, To>(memory, from, factor, to);
    case ElementType::float64: return convert<Plain<double>, To>(memory, from, factor, to);
  }
}

template <typename T>
void count_in(const DeviceMemory& memory, const StridedArray& array, unsigned long long* found) {
  launch("count_non_finite_kernel", count_non_finite_kernel<T>, blocks_of_rows(array.size()),
         memory.stream(), static_cast<const T*>(array.data), merged_axes(array, array),
         array.size(), found);
}

template <typename T>
NodeView<T> node_view(const StridedArray& array) {
  return {static_cast<T*>(array.data), array.extent[1], array.extent[0], array.stride[1],
          array.stride[0]};
}

template <typename T>
void weight(DeviceMemory& memory, const StridedArray& unary, const WeightedUnary& options,
            const StridedArray& weighted, const StridedArray& start) {
  weight_unary<T>(memory, node_view<const T>(unary), options.weight,
                  static_cast<T*>(options.log_p.data), static_cast<T*>(weighted.data),
                  options.starts_from_log ? nullptr : static_cast<T*>(start.data));
}

template <typename T>
void weight_back(DeviceMemory& memory, const WeightedUnary& options,
                 const StridedArray& grad_weighted, const StridedArray& grad_start,
                 const StridedArray& grad_unary, double* grad_weight) {
  weighted_unary_gradient<T>(memory, static_cast<const T*>(options.log_p.data), options.weight,
                             options.starts_from_log, static_cast<const T*>(grad_weighted.data),
                             static_cast<const T*>(grad_start.data), node_view<T>(grad_unary),
                             grad_weight);
}

// `later` does what it is asked from now on after what `earlier` was asked so far.
void put_in_order(int device, cudaStream_t earlier, cudaStream_t later) {
  if (earlier == later) return;
  check(cudaSetDevice(device), "choosing the device");
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  const cudaError_t recorded = cudaEventRecord(event, earlier);
  const cudaError_t waits =
      recorded == cudaSuccess ? cudaStreamWaitEvent(later, event, 0) : recorded;
  cudaEventDestroy(event);
  check(waits, "waiting for a stream");
}

class CudaArrays final : public DeviceArrays {
 public:
  explicit CudaArrays(Queue queue) : memory_(queue) {}

  Memory& memory() override { return memory_; }
  void* stream() const override { return memory_.queue().stream; }
  void wait_for(void* other) const override {
    put_in_order(memory_.queue().device, static_cast<cudaStream_t>(other), memory_.queue().stream);
  }
  void hold_back(void* other) const override {
    put_in_order(memory_.queue().device, memory_.queue().stream, static_cast<cudaStream_t>(other));
  }
  void wait() const override { memory_.wait(); }
  void upload(const void* from, std::size_t num_bytes, void* to) const override {
    cuda::upload(memory_, static_cast<const char*>(from), static_cast<int64_t>(num_bytes),
                 static_cast<char*>(to));
  }
  void download(const void* from, std::size_t num_bytes, void* to) const override {
    cuda::download(memory_, static_cast<const char*>(from), static_cast<int64_t>(num_bytes),
                   static_cast<char*>(to));
  }
  void clear(void* data, std::size_t num_bytes) const override {
    if (num_bytes == 0) return;
    check(cudaMemsetAsync(data, 0, num_bytes, memory_.stream()), "clearing memory");
  }
  void copy(const StridedArray& from, double factor, const StridedArray& to) const override {
    if (to.size() == 0) return;
    const Axes axes = merged_axes(from, to);
    const bool is_plain =
        axes.count == 0 || (axes.count == 1 && axes.from[0] == 1 && axes.to[0] == 1);
    if (is_plain && from.type == to.type && factor == 1) {
      const auto num_bytes = static_cast<std::size_t>(to.size() * num_bytes_of(to.type));
      check(cudaMemcpyAsync(to.data, from.data, num_bytes, cudaMemcpyDeviceToDevice,
                            memory_.stream()),
            "copying on the device");
      return;
    }
    if (to.type == ElementType::float64) return convert_to<double>(memory_, from, factor, to);
    convert_to<float>(memory_, from, factor, to);
  }
  void count_non_finite(std::span<const StridedArray> arrays, int64_t* counts) const override {
    Buffer<unsigned long long> found(memory_, static_cast<int64_t>(arrays.size()));
    cuda::clear(memory_, found);
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      unsigned long long* const place = found.data() + i;
      if (arrays[i].size() == 0) continue;
      if (arrays[i].type == ElementType::float64)
        count_in<double>(memory_, arrays[i], place);
      else
        count_in<float>(memory_, arrays[i], place);
    }
    std::ranges::transform(download_all(memory_, found), counts,
                           [](unsigned long long count) { return static_cast<int64_t>(count); });
  }

  void weight_unary(const StridedArray& unary, const WeightedUnary& options,
                    const StridedArray& weighted, const StridedArray& start) const override {
    const auto run = unary.type == ElementType::float64 ? weight<double> : weight<float>;
    run(memory_, unary, options, weighted, start);
  }
  void weighted_unary_gradient(const WeightedUnary& options, const StridedArray& grad_weighted,
                               const StridedArray& grad_start, const StridedArray& grad_unary,
                               double* grad_weight) const override {
    const bool is_double = options.log_p.type == ElementType::float64;
    const auto run = is_double ? weight_back<double> : weight_back<float>;
    run(memory_, options, grad_weighted, grad_start, grad_unary, grad_weight);
  }

  std::unique_ptr<DeviceEvent> record_event() const override {
    return cuda::record_event(memory_.queue());
  }
  void begin_recording() const override { cuda::begin_recording(memory_.queue()); }
  std::unique_ptr<DeviceGraph> end_recording() const override {
    return cuda::end_recording(memory_.queue());
  }

 private:
  mutable DeviceMemory memory_;
};

}  // namespace

DeviceArrays* arrays_on(int device, cudaStream_t stream) {
  static std::mutex mutex;
  static auto* all = new std::map<std::pair<int, cudaStream_t>, CudaArrays*>;
  if (stream == nullptr) stream = own_stream(device);
  const std::lock_guard lock(mutex);
  CudaArrays*& arrays = (*all)[{device, stream}];
  if (arrays == nullptr) arrays = new CudaArrays({device, stream, own_pool(device)});
  return arrays;
}

}  // namespace densefield::cuda
