// What is done on a device beside models: the published options of a ConvCRF's unary, times, and
// work that is recorded. Streams are numbers in Python.
#include <pybind11/stl.h>

#include "bind.h"
#include "densefield/device_arrays.h"
#include "device_array.h"
#include "devices.h"
#include "gil.h"

namespace densefield::bindings {
namespace {

DeviceArrays& arrays_with(const DeviceArray& array) {
  return arrays_on(array.device, array.stream);
}

DeviceArrays& arrays_at(const std::string& device, std::uintptr_t stream) {
  return arrays_on(device, reinterpret_cast<void*>(stream));
}

// start: None where the first message is computed of log_p.
void weight_unary(const DeviceArray& unary, const std::vector<double>& weight,
                  const DeviceArray& log_p, const DeviceArray& weighted,
                  const std::optional<DeviceArray>& start) {
  const GilReleased released;
  arrays_with(unary).weight_unary(unary.view, {log_p.view, weight, !start}, weighted.view,
                                  start ? start->view : StridedArray{});
}

// Returns the gradient by each label's weight.
std::vector<double> weighted_unary_gradient(const DeviceArray& log_p,
                                            const std::vector<double>& weight, bool starts_from_log,
                                            const DeviceArray& grad_weighted,
                                            const DeviceArray& grad_start,
                                            const std::optional<DeviceArray>& grad_unary) {
  StridedArray to = log_p.view;
  to.data = nullptr;
  if (grad_unary) to = grad_unary->view;
  std::vector<double> grad_weight(weight.size());
  const GilReleased released;
  arrays_with(log_p).weighted_unary_gradient({log_p.view, weight, starts_from_log},
                                             grad_weighted.view, grad_start.view, to,
                                             grad_weight.data());
  return grad_weight;
}

}  // namespace

void bind_device_work(py::module_& module) {
  module.def("weight_unary", &weight_unary);
  module.def("weighted_unary_gradient", &weighted_unary_gradient);
  py::class_<DeviceEvent>(module, "DeviceEvent")
      .def("milliseconds_since", [](const DeviceEvent& self, const DeviceEvent& earlier) {
        const GilReleased released;
        return self.milliseconds_since(earlier);
      });
  py::class_<DeviceGraph>(module, "DeviceGraph")
      .def("launch",
           [](const DeviceGraph& self) {
             const GilReleased released;
             self.launch();
           })
      .def_property_readonly("num_steps", &DeviceGraph::num_steps);
  module.def("record_event", [](const std::string& device, std::uintptr_t stream) {
    const DeviceKept kept;
    return arrays_at(device, stream).record_event();
  });
  module.def("begin_recording", [](const std::string& device, std::uintptr_t stream) {
    const DeviceKept kept;
    arrays_at(device, stream).begin_recording();
  });
  module.def("end_recording", [](const std::string& device, std::uintptr_t stream) {
    const DeviceKept kept;
    return arrays_at(device, stream).end_recording();
  });
}

}  // namespace densefield::bindings
