// Element by element. Limited by memory.
#include <algorithm>

#include "../cpp/core/normalization.h"
#include "launch.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void normalizer_kernel(const T* rows,  // [count, stride]
                                  int64_t count, int64_t stride, bool square_root,
                                  T* out) {  // [count] out
  const int64_t i = item_of_thread();
  if (i < count) out[i] = normalization_scale(rows[i * stride], square_root);
}

template <typename T>
__global__ void multiply_kernel(const T* a,  // [count]
                                const T* b,  // [count]
                                int64_t count,
                                T* out) {  // [count] out, may be a or b
  const int64_t i = item_of_thread();
  if (i < count) out[i] = a[i] * b[i];
}

template <typename T>
__global__ void add_kernel(const T* from,  // [count]
                           int64_t count,
                           T* to) {  // [count] in, out
  const int64_t i = item_of_thread();
  if (i < count) to[i] += from[i];
}

template <typename T>
__global__ void fill_kernel(T value, int64_t count,
                            T* out) {  // [count] out
  const int64_t i = item_of_thread();
  if (i < count) out[i] = value;
}

// What one launch carries among its arguments, of which every device takes 4 KB.
template <typename T>
struct CarriedValues {
  static constexpr int64_t kMost = 2048 / static_cast<int64_t>(sizeof(T));
  T value[kMost];
};

template <typename T>
__global__ void write_values_kernel(CarriedValues<T> from, int64_t count,
                                    T* to) {  // [count] out
  const int64_t i = item_of_thread();
  if (i < count) to[i] = from.value[i];
}

}  // namespace

template <typename T>
void upload_values(const DeviceMemory& memory, const T* from, int64_t count, T* to) {
  for (int64_t first = 0; first < count; first += CarriedValues<T>::kMost) {
    CarriedValues<T> carried{};
    const int64_t length = std::min(CarriedValues<T>::kMost, count - first);
    std::copy_n(from + first, length, carried.value);
    launch("write_values_kernel", write_values_kernel<T>, one_each(length), memory.stream(),
           carried, length, to + first);
  }
}

template <typename T>
void normalizer(DeviceMemory& memory, const T* rows, int64_t count, int64_t stride,
                bool square_root, T* out) {
  if (count == 0) return;
  launch("normalizer_kernel", normalizer_kernel<T>, one_each(count), memory.stream(), rows, count,
         stride, square_root, out);
}

template <typename T>
void multiply(DeviceMemory& memory, const T* a, const T* b, int64_t count, T* out) {
  if (count == 0) return;
  launch("multiply_kernel", multiply_kernel<T>, one_each(count), memory.stream(), a, b, count, out);
}

template <typename T>
void add(DeviceMemory& memory, const T* from, int64_t count, T* to) {
  if (count == 0) return;
  launch("add_kernel", add_kernel<T>, one_each(count), memory.stream(), from, count, to);
}

template <typename T>
void fill(DeviceMemory& memory, T value, int64_t count, T* out) {
  if (count == 0) return;
  launch("fill_kernel", fill_kernel<T>, one_each(count), memory.stream(), value, count, out);
}

template <typename T>
void copy(DeviceMemory& memory, const T* from, int64_t count, T* to) {
  if (count == 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(count) * sizeof(T),
                        cudaMemcpyDeviceToDevice, memory.stream()),
        "copying on the device");
}

#define DF_INSTANTIATE(T)                                                        \
  template void normalizer(DeviceMemory&, const T*, int64_t, int64_t, bool, T*); \
  template void multiply(DeviceMemory&, const T*, const T*, int64_t, T*);        \
  template void add(DeviceMemory&, const T*, int64_t, T*);                       \
  template void copy(DeviceMemory&, const T*, int64_t, T*);                      \
  template void upload_values(const DeviceMemory&, const T*, int64_t, T*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)
template void fill(DeviceMemory&, float, int64_t, float*);
template void fill(DeviceMemory&, double, int64_t, double*);
template void fill(DeviceMemory&, int32_t, int64_t, int32_t*);

}  // namespace densefield::cuda
