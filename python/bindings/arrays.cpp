#include "arrays.h"

#include <cstddef>
#include <memory>
#include <string>

#include "densefield/buffer.h"
#include "densefield/error.h"

namespace densefield::bindings {
namespace {

// Stride in elements. NumPy strides may be no multiple of the element (a field of a record).
template <typename T>
int64_t element_stride(const py::array& array, int axis) {
  const py::ssize_t bytes = array.strides(axis);
  if (bytes % static_cast<py::ssize_t>(sizeof(T)) != 0)
    throw Error(Error::Kind::value, "array strides must be whole elements; pass a copy()");
  return bytes / static_cast<py::ssize_t>(sizeof(T));
}

template <typename T>
void check_table(const py::array& array) {
  if (array.ndim() != 2)
    throw Error(Error::Kind::value,
                "expected a 2-D array, got " + std::to_string(array.ndim()) + " dimensions");
  if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0)
    throw Error(Error::Kind::value, "array data must be aligned; pass a copy()");
}

}  // namespace

template <typename T>
NodeView<const T> view_channels_first(const Array<T>& array) {
  check_table<T>(array);
  return {array.data(), array.shape(1), array.shape(0), element_stride<T>(array, 1),
          element_stride<T>(array, 0)};
}

template <typename T>
NodeView<T> view_channels_first_writable(Array<T>& array) {
  check_table<T>(array);
  return {array.mutable_data(), array.shape(1), array.shape(0), element_stride<T>(array, 1),
          element_stride<T>(array, 0)};
}

template <typename T>
NodeView<const T> view_nodes_first(const Array<T>& array) {
  check_table<T>(array);
  return {array.data(), array.shape(0), array.shape(1), element_stride<T>(array, 0),
          element_stride<T>(array, 1)};
}

template <typename T>
Array<T> new_table(int64_t num_nodes, int64_t num_channels) {
  return Array<T>({num_nodes, num_channels});
}

template <typename T>
NodeView<T> view_new_table(Array<T>& array) {
  return {array.mutable_data(), array.shape(0), array.shape(1), array.shape(1), 1};
}

#define DF_INSTANTIATE(T)                                          \
  template NodeView<const T> view_channels_first(const Array<T>&); \
  template NodeView<T> view_channels_first_writable(Array<T>&);    \
  template NodeView<const T> view_nodes_first(const Array<T>&);    \
  template Array<T> new_table(int64_t, int64_t);                   \
  template NodeView<T> view_new_table(Array<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

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
