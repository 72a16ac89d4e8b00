// ConvCRF inferences that can be differentiated, one class for each precision.
#include "bind.h"
#include "densefield/conv_crf_grad.h"
#include "field.h"

namespace densefield::bindings {
namespace {

// For every group of kernels its terms, and where the gradient by each one's values goes, or
// None. A group without terms is differentiated by its compatibility alone.
using GroupRequests = std::vector<std::vector<std::pair<py::object, py::object>>>;

template <typename T>
NodeView<T> view_or_nothing(const py::object& array_or_none) {
  if (array_or_none.is_none()) return {};
  auto array = array_or_none.cast<Array<T>>();
  return view_channels_first_writable(array);
}

template <typename T>
std::vector<ConvGroupGradient<T>> groups_from(const GroupRequests& requests) {
  std::vector<ConvGroupGradient<T>> groups;
  for (const auto& terms : requests) {
    ConvGroupGradient<T>& group = groups.emplace_back();
    for (const auto& [term, grad_values] : terms) {
      ConvTermGradient<T>& to = group.terms.emplace_back();
      to.term = &term.template cast<const WindowTerm<T>&>();
      to.values = view_or_nothing<T>(grad_values);
    }
  }
  return groups;
}

// Returns for every group the gradient by A, and for each of its terms those by weight and
// standard deviations.
template <typename T>
py::list reverse_conv(const RecordedConvInference<T>& self, const Array<T>& grad_result,
                      const py::object& grad_unary, const py::object& grad_start,
                      const GroupRequests& requests) {
  const NodeView<const T> from = view_channels_first(grad_result);
  const NodeView<T> to_unary = view_or_nothing<T>(grad_unary);
  const NodeView<T> to_start = view_or_nothing<T>(grad_start);
  auto groups = groups_from<T>(requests);
  {
    const GilReleased released;
    self.reverse(from, to_unary, to_start, groups, check_signals);
  }
  py::list result;
  for (const ConvGroupGradient<T>& group : groups) {
    py::list terms;
    for (const ConvTermGradient<T>& term : group.terms)
      terms.append(py::make_tuple(term.weight, term.sigma));
    result.append(py::make_tuple(group.compatibility, terms));
  }
  return result;
}

template <typename T>
void bind_conv_gradient_types(py::module_& module, const std::string& suffix) {
  using Inference = RecordedConvInference<T>;
  py::class_<Inference, std::shared_ptr<Inference>>(module,
                                                    ("RecordedConvInference" + suffix).c_str())
      .def(py::init([](std::shared_ptr<ConvModel<T>> model, const CompatibilityList<T>& list,
                       const Array<T>& unary, const py::object& start, bool returns_scores,
                       int interval) {
        const NodeView<const T> view = view_channels_first(unary);
        NodeView<const T> first{};
        if (!start.is_none()) first = view_channels_first(start.cast<Array<T>>());
        auto compatibility = compatibility_from(list);
        const GilReleased released;
        return std::make_shared<Inference>(std::move(model), std::move(compatibility), view, first,
                                           returns_scores, interval);
      }))
      .def("run",
           [](Inference& self, int iterations, double tolerance, const Array<T>& out) {
             return run<T>(self, iterations, tolerance, py::none(), [&] { return out; });
           })
      .def("reverse", &reverse_conv<T>)
      .def_property_readonly("num_updates", &Inference::num_updates)
      .def_property_readonly("nbytes", &Inference::num_bytes);
}

}  // namespace

void bind_conv_gradients(py::module_& module) {
  bind_conv_gradient_types<float>(module, "F32");
  bind_conv_gradient_types<double>(module, "F64");
}

}  // namespace densefield::bindings
