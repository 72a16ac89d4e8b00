// Arrays on a device, and the order between streams: what densefield/device_arrays.py is made of.
// Streams are numbers in Python, CUDA's handles.
#include <pybind11/stl.h>

#include <sstream>

#include "arrays.h"
#include "bind.h"
#include "densefield/error.h"
#include "device_array.h"
#include "devices.h"
#include "gil.h"

namespace densefield::bindings {
namespace {

void* stream_from(std::uintptr_t number) { return reinterpret_cast<void*>(number); }
std::uintptr_t number_of(const void* stream) { return reinterpret_cast<std::uintptr_t>(stream); }

std::vector<int64_t> shape_of(const StridedArray& view) {
  return {view.extent, view.extent + view.num_axes};
}

DeviceArrays& arrays_of(const DeviceArray& array) { return arrays_on(array.device, array.stream); }

bool is_contiguous(const StridedArray& view) {
  int64_t stride = 1;
  for (int a = view.num_axes - 1; a >= 0; --a) {
    if (view.extent[a] != 1 && view.stride[a] != stride) return false;
    stride *= view.extent[a];
  }
  return true;
}

std::size_t num_bytes(const DeviceArray& array) {
  return static_cast<std::size_t>(array.view.size() * numpy_dtype(array.view.type).itemsize());
}

DeviceArray copy_to_device(const py::array& from, const std::string& device,
                           std::uintptr_t stream) {
  const py::array packed = py::array::ensure(from, py::array::c_style);
  if (!packed) throw py::error_already_set();
  const std::vector<int64_t> shape(packed.shape(), packed.shape() + packed.ndim());
  DeviceArray array = new_device_array(packed.dtype(), shape, device, stream_from(stream));
  const GilReleased released;
  arrays_of(array).upload(packed.data(), static_cast<std::size_t>(packed.nbytes()),
                          array.view.data);
  return array;
}

// Of a contiguous array.
void clear(const DeviceArray& array) {
  if (!is_contiguous(array.view)) fail_value("only a contiguous array can be cleared");
  const std::size_t count = num_bytes(array);
  const GilReleased released;
  arrays_of(array).clear(array.view.data, count);
}

// Memory that somebody else described, by __cuda_array_interface__: strides in elements.
DeviceArray wrap_memory(std::uintptr_t pointer, const std::vector<int64_t>& shape,
                        const std::vector<int64_t>& strides, const py::dtype& dtype,
                        std::uintptr_t stream, bool is_writable, py::object owner) {
  DeviceArray array{{},
                    device_of_memory(reinterpret_cast<const void*>(pointer)),
                    stream_from(stream),
                    is_writable,
                    std::move(owner)};
  if (array.device.empty() && pointer != 0)
    fail_value("has a pointer that is no memory of a CUDA device that this process can use");
  array.view.data = reinterpret_cast<void*>(pointer);
  array.view.type = element_type(dtype);
  array.view.num_axes = checked_num_axes(static_cast<py::ssize_t>(shape.size()));
  std::copy(shape.begin(), shape.end(), array.view.extent);
  std::copy(strides.begin(), strides.end(), array.view.stride);
  return array;
}

// The same memory seen in another shape; offset and strides in elements.
DeviceArray view_as(const DeviceArray& array, const std::vector<int64_t>& shape,
                    const std::vector<int64_t>& strides, int64_t offset) {
  DeviceArray result = array;
  const int64_t itemsize = numpy_dtype(array.view.type).itemsize();
  result.view.data = static_cast<char*>(array.view.data) + offset * itemsize;
  result.view.num_axes = checked_num_axes(static_cast<py::ssize_t>(shape.size()));
  std::copy(shape.begin(), shape.end(), result.view.extent);
  std::copy(strides.begin(), strides.end(), result.view.stride);
  return result;
}

void copy_from(const DeviceArray& to, const DeviceArray& from, double factor) {
  if (shape_of(from.view) != shape_of(to.view)) fail_value("copies need one shape");
  const GilReleased released;
  arrays_of(to).copy(from.view, factor, to.view);
}

std::vector<int64_t> count_non_finite(const std::vector<DeviceArray>& arrays) {
  std::vector<int64_t> counts(arrays.size());
  std::vector<StridedArray> views;
  for (const DeviceArray& array : arrays) views.push_back(array.view);
  if (!arrays.empty()) {
    const GilReleased released;
    arrays_of(arrays.front()).count_non_finite(views, counts.data());
  }
  return counts;
}

py::array to_numpy(const DeviceArray& array) {
  py::array result(numpy_dtype(array.view.type), shape_of(array.view));
  DeviceArray packed = array;
  if (!is_contiguous(array.view)) {
    packed = new_device_array(result.dtype(), shape_of(array.view), array.device, array.stream);
    copy_from(packed, array, 1);
  }
  const std::size_t count = num_bytes(array);
  void* const to = result.mutable_data();
  const GilReleased released;
  arrays_of(array).download(packed.view.data, count, to);
  return result;
}

py::object interface_of(const DeviceArray& array) {
  if (array.device.rfind("cuda:", 0) != 0)
    throw py::attribute_error("__cuda_array_interface__ is for memory of CUDA devices");
  const py::dtype dtype = numpy_dtype(array.view.type);
  py::list shape, strides;
  for (int a = 0; a < array.view.num_axes; ++a) {
    shape.append(array.view.extent[a]);
    strides.append(array.view.stride[a] * dtype.itemsize());
  }
  py::dict interface;
  interface["version"] = 3;
  interface["shape"] = py::tuple(shape);
  interface["strides"] = py::tuple(strides);
  interface["typestr"] = dtype.attr("str");
  interface["data"] = py::make_tuple(number_of(array.view.data), !array.is_writable);
  interface["stream"] = number_of(array.stream);
  return interface;
}

std::string text_of(const DeviceArray& array) {
  std::ostringstream text;
  text << "DeviceArray(shape="
       << py::str(py::tuple(py::cast(shape_of(array.view)))).cast<std::string>()
       << ", dtype=" << py::str(numpy_dtype(array.view.type)).cast<std::string>() << ", device='"
       << array.device << "')";
  return text.str();
}

// A consumer's stream waits until the values are there. None: CUDA's default stream; -1: the
// consumer takes care of the order itself.
py::capsule export_to(const DeviceArray& array, const std::optional<int64_t>& stream,
                      const std::optional<std::pair<int, int>>& max_version,
                      const std::optional<std::pair<int, int>>& device,
                      const std::optional<bool>& copy) {
  const py::tuple own = dlpack_device(array);
  if (device && !py::make_tuple(device->first, device->second).equal(own))
    throw py::buffer_error("DeviceArray does not move by itself; use numpy() for the host");
  if (copy && *copy) throw py::buffer_error("DeviceArray makes no copy; copy what you made of it");
  constexpr int64_t kLegacyDefault = 1;
  if (stream != -1)
    arrays_of(array).hold_back(
        stream_from(static_cast<std::uintptr_t>(stream.value_or(kLegacyDefault))));
  return to_dlpack(array, max_version && max_version->first >= 1);
}

constexpr const char* kClassDoc =
    "An array in the memory of a device, made by `to_device` and returned where arrays come from\n"
    "no library that is known here.\n\n"
    "Every library reads it where it lies, by DLPack (``torch.from_dlpack``,\n"
    "``cupy.from_dlpack``, ``jax.dlpack.from_dlpack``) or ``__cuda_array_interface__``, and the\n"
    "library's stream waits for its values. `numpy` copies it to the host.";

void bind_class(py::module_& module) {
  py::class_<DeviceArray>(module, "DeviceArray", kClassDoc)
      .def_property_readonly(
          "shape", [](const DeviceArray& self) { return py::tuple(py::cast(shape_of(self.view))); },
          "Extents of all axes.")
      .def_property_readonly(
          "dtype", [](const DeviceArray& self) { return numpy_dtype(self.view.type); },
          "Type of the elements.")
      .def_property_readonly(
          "ndim", [](const DeviceArray& self) { return self.view.num_axes; }, "Number of axes.")
      .def_property_readonly(
          "size", [](const DeviceArray& self) { return self.view.size(); }, "Number of elements.")
      .def_property_readonly("nbytes", &num_bytes, "Bytes of all elements.")
      .def_readonly("device", &DeviceArray::device, "Where it is: 'cuda:0'.")
      .def_property_readonly(
          "stream", [](const DeviceArray& self) { return number_of(self.stream); },
          "Handle of the CUDA stream in whose order its values are written.")
      .def_property_readonly("_strides",
                             [](const DeviceArray& self) {
                               return py::tuple(py::cast(std::vector<int64_t>(
                                   self.view.stride, self.view.stride + self.view.num_axes)));
                             })
      .def_property_readonly("_pointer",
                             [](const DeviceArray& self) { return number_of(self.view.data); })
      .def_readonly("_is_writable", &DeviceArray::is_writable)
      .def("_view", &view_as)
      .def("_on_stream",
           [](const DeviceArray& self, std::uintptr_t stream) {
             DeviceArray same = self;
             same.stream = stream_from(stream);
             return same;
           })
      .def("_clear", &clear)
      .def("_copy_from", &copy_from)
      .def("numpy", &to_numpy, "Copy to the host, after waiting for the values.")
      .def("__dlpack__", &export_to, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
           py::arg("copy") = py::none())
      .def("__dlpack_device__", &dlpack_device)
      .def_property_readonly("__cuda_array_interface__", &interface_of)
      .def("__repr__", &text_of);
}

}  // namespace

void bind_device_arrays(py::module_& module) {
  bind_class(module);
  module.def("copy_to_device", &copy_to_device);
  module.def("new_device_array", [](const py::dtype& dtype, const std::vector<int64_t>& shape,
                                    const std::string& device, std::uintptr_t stream) {
    return new_device_array(dtype, shape, device, stream_from(stream));
  });
  module.def("from_dlpack", [](const py::capsule& capsule, std::uintptr_t stream) {
    return from_dlpack(capsule, stream_from(stream));
  });
  module.def("wrap_device_memory", &wrap_memory);
  module.def("count_non_finite", &count_non_finite);
  module.def("device_of_memory", [](std::uintptr_t pointer) {
    return device_of_memory(reinterpret_cast<const void*>(pointer));
  });
  module.def("own_stream", [](const std::string& device) {
    return number_of(arrays_on(device, nullptr).stream());
  });
  module.def("set_stream_here",
             [](std::uintptr_t stream) { return number_of(set_stream_here(stream_from(stream))); });
  // `later` waits for what `earlier` was asked so far.
  module.def("order_streams",
             [](const std::string& device, std::uintptr_t earlier, std::uintptr_t later) {
               const DeviceKept kept;
               arrays_on(device, stream_from(later)).wait_for(stream_from(earlier));
             });
  module.def("wait_for_stream", [](const std::string& device, std::uintptr_t stream) {
    DeviceArrays& arrays = arrays_on(device, stream_from(stream));
    const GilReleased released;
    arrays.wait();
  });
}

}  // namespace densefield::bindings
