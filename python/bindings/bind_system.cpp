// Version, memory, threads, SIMD level: what `densefield info` shows and tests set.
#include <pybind11/stl.h>

#include "arrays.h"
#include "bind.h"
#include "cpu/simd/kernels.h"
#include "densefield/threads.h"
#include "devices.h"

namespace py = pybind11;

namespace densefield::bindings {

void bind_system(py::module_& module) {
  module.attr("__version__") = DF_VERSION;
  module.attr("cuda_build_note") = DF_CUDA_BUILD_NOTE;
  module.attr("compiler") = __VERSION__;
  module.def("get_num_threads", &num_threads);
  module.def("num_threads_source", &num_threads_source);
  module.def("set_num_threads", &set_num_threads, py::arg("n"));
  module.def("set_num_threads_here", &set_num_threads_here, py::arg("n"));
  module.def("all_finite", &all_finite, py::arg("array"));
  module.def("new_result", &new_result, py::arg("dtype"), py::arg("shape"));
  module.def("device", &device);
  module.def("set_device", &set_device, py::arg("name"));
  module.def("set_device_here", &set_device_here, py::arg("name"));
  module.def("device_problem", &device_problem, py::arg("name"));
  module.def("simd_level", &simd::level_name);
  module.def("simd_available", &simd::available_levels);
  module.def("set_simd_level", &simd::set_level, py::arg("name"));
}

}  // namespace densefield::bindings
