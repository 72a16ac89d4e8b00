#include "arrays.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>

#include "densefield/buffer.h"
#include "densefield/error.h"
#include "densefield/threads.h"
#include "device_array.h"
#include "gil.h"

namespace densefield::bindings {
namespace {

template <typename T>
constexpr ElementType kElement = sizeof(T) == 4 ? ElementType::float32 : ElementType::float64;

StridedArray view_of_numpy(const py::array& array, bool will_write) {
  StridedArray view;
  view.type = element_type(array.dtype());
  view.num_axes = checked_num_axes(array.ndim());
  const py::ssize_t itemsize = array.itemsize();
  for (int a = 0; a < view.num_axes; ++a) {
    view.extent[a] = array.shape(a);
    // NumPy strides may be no multiple of the element (a field of a record).
    if (array.strides(a) % itemsize != 0)
      fail_value("array strides must be whole elements; pass a copy()");
    view.stride[a] = array.strides(a) / itemsize;
  }
  if (will_write && !array.writeable()) fail_value("array must be writable; pass a copy()");
  view.data = const_cast<void*>(array.data());
  if (reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::size_t>(itemsize) != 0)
    fail_value("array data must be aligned; pass a copy()");
  return view;
}

StridedArray table_of(const py::object& array, bool will_write) {
  const StridedArray view = view_of(array, will_write);
  if (view.num_axes != 2)
    fail_value("expected a 2-D array, got " + std::to_string(view.num_axes) + " dimensions");
  return view;
}

template <typename T>
NodeView<T> channels_first(const StridedArray& view) {
  return {static_cast<T*>(view.data), view.extent[1], view.extent[0], view.stride[1],
          view.stride[0]};
}

template <typename T>
NodeView<T> nodes_first(const StridedArray& view) {
  return {static_cast<T*>(view.data), view.extent[0], view.extent[1], view.stride[0],
          view.stride[1]};
}

template <typename T>
bool all_finite(const T* values, int64_t count) {
  constexpr int64_t kGrain = 1 << 16;
  using Bits = std::conditional_t<sizeof(T) == sizeof(uint32_t), uint32_t, uint64_t>;
  constexpr Bits kExponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  std::atomic<bool> is_finite = true;
  parallel_for((count + kGrain - 1) / kGrain, [&](int64_t task, int) {
    const int64_t end = std::min(count, (task + 1) * kGrain);
    Bits found = 0;
    for (int64_t i = task * kGrain; i < end; ++i)
      found |= Bits{(std::bit_cast<Bits>(values[i]) & kExponent) == kExponent};
    if (found != 0) is_finite = false;
  });
  return is_finite;
}

}  // namespace

StridedArray view_of(const py::object& array, bool will_write) {
  if (!py::isinstance<DeviceArray>(array))
    return view_of_numpy(py::reinterpret_borrow<py::array>(array), will_write);
  const auto& on_device = array.cast<const DeviceArray&>();
  if (will_write && !on_device.is_writable) fail_value("array must be writable; pass a copy");
  return on_device.view;
}

template <typename T>
bool is_array_of(py::handle object) {
  if (py::isinstance<DeviceArray>(object))
    return object.cast<const DeviceArray&>().view.type == kElement<T>;
  return py::isinstance<py::array_t<T, 0>>(object);
}

template <typename T>
NodeView<const T> view_channels_first(const Array<T>& array) {
  return channels_first<const T>(table_of(array.object, false));
}

template <typename T>
NodeView<T> view_channels_first_writable(const Array<T>& array) {
  return channels_first<T>(table_of(array.object, true));
}

template <typename T>
NodeView<const T> view_nodes_first(const Array<T>& array) {
  return nodes_first<const T>(table_of(array.object, false));
}

template <typename T>
NodeView<T> view_nodes_first_writable(const Array<T>& array) {
  return nodes_first<T>(table_of(array.object, true));
}

#define DF_INSTANTIATE(T)                                             \
  template bool is_array_of<T>(py::handle);                           \
  template NodeView<const T> view_channels_first(const Array<T>&);    \
  template NodeView<T> view_channels_first_writable(const Array<T>&); \
  template NodeView<const T> view_nodes_first(const Array<T>&);       \
  template NodeView<T> view_nodes_first_writable(const Array<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

bool all_finite(const py::array& array) {
  const void* values = array.data();
  const int64_t count = array.size();
  const bool is_float = array.itemsize() == sizeof(float);
  const GilReleased released;
  return is_float ? all_finite(static_cast<const float*>(values), count)
                  : all_finite(static_cast<const double*>(values), count);
}

py::array new_result(const py::dtype& dtype, const std::vector<py::ssize_t>& shape) {
  int64_t num_bytes = dtype.itemsize();
  for (const py::ssize_t extent : shape) num_bytes *= extent;
  auto memory = std::make_unique<Buffer<std::byte>>(host_memory(), num_bytes);
  std::byte* data = memory->data();
  const py::capsule owner(memory.get(),
                          [](void* owned) { delete static_cast<Buffer<std::byte>*>(owned); });
  memory.release();
  return py::array(dtype, shape, data, owner);
}

}  // namespace densefield::bindings
