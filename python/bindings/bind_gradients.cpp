// Inferences that can be differentiated, one class for each precision.
#include "bind.h"
#include "densefield/crf_grad.h"
#include "field.h"

namespace densefield::bindings {
namespace {

// What a kernel was built from, and where the gradient by its values goes. None: not wanted.
using KernelRequests = std::vector<std::pair<py::object, py::object>>;

template <typename T>
std::vector<KernelGradient<T>> gradients_from(const KernelRequests& requests) {
  std::vector<KernelGradient<T>> kernels;
  for (const auto& [spec, grad_values] : requests) {
    KernelGradient<T>& kernel = kernels.emplace_back();
    if (!spec.is_none()) kernel.features = &spec.template cast<const KernelSpec<T>&>().features;
    if (grad_values.is_none()) continue;
    auto array = grad_values.template cast<Array<T>>();
    kernel.values = view_channels_first_writable(array);
  }
  return kernels;
}

// grad_unary: (C, N) array, or None. Returns the gradients by every kernel's A and sigmas.
template <typename T>
py::list reverse(const RecordedInference<T>& self, const Array<T>& grad_marginals,
                 const py::object& grad_unary, const KernelRequests& requests) {
  const NodeView<const T> from = view_channels_first(grad_marginals);
  NodeView<T> to{};
  if (!grad_unary.is_none()) {
    auto array = grad_unary.cast<Array<T>>();
    to = view_channels_first_writable(array);
  }
  auto kernels = gradients_from<T>(requests);
  {
    const GilReleased released;
    self.reverse(from, to, kernels, check_signals);
  }
  py::list result;
  for (const KernelGradient<T>& kernel : kernels)
    result.append(py::make_tuple(kernel.compatibility, kernel.sigma));
  return result;
}

template <typename T>
void bind_gradient_types(py::module_& module, const std::string& suffix) {
  using Inference = RecordedInference<T>;
  py::class_<Inference, std::shared_ptr<Inference>>(module, ("RecordedInference" + suffix).c_str())
      .def(py::init([](std::shared_ptr<CrfModel<T>> model, const CompatibilityList<T>& list,
                       const Array<T>& unary, int interval, bool returns_scores) {
        const NodeView<const T> view = view_channels_first(unary);
        auto compatibility = compatibility_from(list);
        const GilReleased released;
        return std::make_shared<Inference>(std::move(model), std::move(compatibility), view,
                                           interval, returns_scores);
      }))
      .def("run",
           [](Inference& self, int iterations, double tolerance, const Array<T>& out) {
             InferenceOptions<T> options;
             options.iterations = iterations;
             options.tolerance = tolerance;
             options.interrupt = check_signals;
             const NodeView<T> view = view_channels_first_writable(out);
             const GilReleased released;
             return self.run(options, view);
           })
      .def("reverse", &reverse<T>)
      .def_property_readonly("num_updates", &Inference::num_updates)
      .def_property_readonly("nbytes", &Inference::num_bytes);
}

}  // namespace

void bind_gradients(py::module_& module) {
  bind_gradient_types<float>(module, "F32");
  bind_gradient_types<double>(module, "F64");
}

}  // namespace densefield::bindings
