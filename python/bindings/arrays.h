// NumPy arrays as views of the core, and back. The only place that knows dtypes and strides:
// what arrives here was checked and brought to float32 or float64 by densefield/_arrays.py.
#pragma once

#include <pybind11/numpy.h>

#include <vector>

#include "densefield/view.h"

namespace densefield::bindings {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, 0>;

// A (channels, nodes) array of any strides.
template <typename T>
NodeView<const T> view_channels_first(const Array<T>& array);
template <typename T>
NodeView<T> view_channels_first_writable(Array<T>& array);

// A (nodes, channels) array of any strides.
template <typename T>
NodeView<const T> view_nodes_first(const Array<T>& array);

// A new C-contiguous (nodes, channels) array.
template <typename T>
Array<T> new_table(int64_t num_nodes, int64_t num_channels);
template <typename T>
NodeView<T> view_new_table(Array<T>& array);

// A new C-contiguous array in the core's memory, not cleared. Large results come from there:
// the system would clear the pages of every new one, a twentieth of an inference's time.
py::array new_result(const py::dtype& dtype, const std::vector<py::ssize_t>& shape);

}  // namespace densefield::bindings
