// Python's arrays as views of the core, and back. The only place that knows dtypes and strides:
// what arrives here was checked and brought to float32 or float64 by densefield/_arrays.py, and is
// NumPy's or a DeviceArray.
#pragma once

#include <pybind11/numpy.h>

#include <vector>

#include "densefield/device_arrays.h"
#include "densefield/view.h"

namespace densefield::bindings {

namespace py = pybind11;

// An argument of a bound function: an array of T exactly. Another type is a TypeError and never
// converted, because results are written to what the caller holds.
template <typename T>
struct Array {
  py::object object;
};
template <typename T>
bool is_array_of(py::handle object);

// Throws Error (value) for strides that are no whole elements, and for memory that is not aligned
// or, where it will be written, read-only.
StridedArray view_of(const py::object& array, bool will_write);

// A (channels, nodes) array of any strides.
template <typename T>
NodeView<const T> view_channels_first(const Array<T>& array);
template <typename T>
NodeView<T> view_channels_first_writable(const Array<T>& array);

// A (nodes, channels) array of any strides.
template <typename T>
NodeView<const T> view_nodes_first(const Array<T>& array);
template <typename T>
NodeView<T> view_nodes_first_writable(const Array<T>& array);

// Whether no value of a C-contiguous NumPy array of float32 or float64 is NaN or infinite. On all
// threads, where NumPy's ways take one.
bool all_finite(const py::array& array);

// A new C-contiguous array in the core's memory, not cleared. Large results come from there:
// the system would clear the pages of every new one, a twentieth of an inference's time.
py::array new_result(const py::dtype& dtype, const std::vector<py::ssize_t>& shape);

}  // namespace densefield::bindings

namespace pybind11::detail {

template <typename T>
struct type_caster<densefield::bindings::Array<T>> {
  PYBIND11_TYPE_CASTER(densefield::bindings::Array<T>,
                       const_name("array of ") + npy_format_descriptor<T>::name);

  bool load(handle source, bool /*convert*/) {
    if (!densefield::bindings::is_array_of<T>(source)) return false;
    value.object = reinterpret_borrow<object>(source);
    return true;
  }
  static handle cast(const densefield::bindings::Array<T>& array, return_value_policy, handle) {
    return object(array.object).release();
  }
};

}  // namespace pybind11::detail
