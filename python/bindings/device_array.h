// An array on a device as a Python object: where it lies, in the order of which stream, and who
// keeps its memory.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "densefield/device_arrays.h"

namespace densefield::bindings {

namespace py = pybind11;

struct DeviceArray {
  StridedArray view;
  std::string device;  // with its number, "cuda:0"
  void* stream;        // in whose order its values are written
  bool is_writable;
  py::object owner;  // keeps the memory
};

// Throws Error (type) for what the core cannot read.
ElementType element_type(const py::dtype& dtype);
// bfloat16, which NumPy has not, is two bytes of no type.
py::dtype numpy_dtype(ElementType type);
int checked_num_axes(py::ssize_t count);

// C-contiguous, not cleared.
DeviceArray new_device_array(const py::dtype& dtype, const std::vector<int64_t>& shape,
                             const std::string& device, void* stream);

// DLPack (dmlc.github.io/dlpack). Takes the capsule over; its producer was told the stream.
DeviceArray from_dlpack(const py::capsule& capsule, void* stream);
// The flags and version only where `is_versioned`.
py::capsule to_dlpack(const DeviceArray& array, bool is_versioned);
// (type, number) of DLPack. An emulated device has a type that no library takes for CUDA.
py::tuple dlpack_device(const DeviceArray& array);

}  // namespace densefield::bindings
