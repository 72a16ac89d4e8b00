// CRF models and mean field, one class of each for each precision.
#include <pybind11/stl.h>

#include "arrays.h"
#include "bind.h"
#include "densefield/crf.h"
#include "densefield/error.h"
#include "gil.h"

namespace densefield::bindings {
namespace {

// Only called with the values that densefield/_kernels.py produces.
Normalization normalization_from(const std::string& name) {
  if (name == "none") return Normalization::none;
  if (name == "before") return Normalization::before;
  if (name == "after") return Normalization::after;
  if (name == "symmetric") return Normalization::symmetric;
  fail_value("unknown normalization '" + name + "'");
}

CompatibilityForm form_from(const std::string& name) {
  if (name == "scalar") return CompatibilityForm::scalar;
  if (name == "vector") return CompatibilityForm::vector;
  if (name == "matrix") return CompatibilityForm::matrix;
  fail_value("unknown compatibility form '" + name + "'");
}

template <typename T>
KernelSpec<T> make_kernel(std::vector<T> sigma_position, const Array<T>& values,
                          std::vector<T> sigma_value, const std::string& normalization,
                          std::vector<T> grid_sigma) {
  return {{std::move(sigma_position), view_channels_first(values), std::move(sigma_value)},
          normalization_from(normalization),
          std::move(grid_sigma)};
}

// densefield/compatibility.py CompatibilityTerms, one for each kernel.
template <typename T>
using CompatibilityList = std::vector<std::tuple<std::string, std::vector<T>, T>>;

template <typename T>
std::vector<Compatibility<T>> compatibility_from(const CompatibilityList<T>& list) {
  std::vector<Compatibility<T>> result;
  for (const auto& [form, values, offset] : list)
    result.push_back({form_from(form), values, offset});
  return result;
}

// Lets Ctrl-C end a running inference between two updates.
void check_signals() {
  py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

template <typename T>
int run(MeanField<T>& mean_field, int iterations, double tolerance, const py::object& callback,
        Array<T> out) {
  InferenceOptions<T> options;
  options.iterations = iterations;
  options.tolerance = tolerance;
  options.interrupt = check_signals;
  if (!callback.is_none())
    options.after_update = [&](MeanField<T>&) {
      const py::gil_scoped_acquire acquire;
      return !callback().cast<bool>();
    };
  const NodeView<T> view = view_channels_first_writable(out);
  const GilReleased released;
  return run_inference(mean_field, options, view);
}

template <typename T>
py::tuple energies(const CrfModel<T>& model, const CompatibilityList<T>& list,
                   const Array<T>& unary, const Array<T>& marginals) {
  const NodeView<const T> u = view_channels_first(unary), q = view_channels_first(marginals);
  const auto compatibility = compatibility_from(list);
  EnergyTerms terms;
  {
    const GilReleased released;
    terms = energy_terms(model, compatibility, u, q);
  }
  return py::make_tuple(terms.negative_entropy, terms.unary, terms.pairs, terms.self);
}

template <typename T>
void bind_precision(py::module_& module, const std::string& suffix) {
  using Model = CrfModel<T>;
  using Field = MeanField<T>;
  py::class_<KernelSpec<T>>(module, ("KernelSpec" + suffix).c_str())
      .def(py::init(&make_kernel<T>), py::keep_alive<1, 3>());

  py::class_<Model, std::shared_ptr<Model>>(module, ("CrfModel" + suffix).c_str())
      .def(py::init([](std::vector<int64_t> grid, const std::vector<KernelSpec<T>>& kernels,
                       bool exclude_self) {
        const GilReleased released;
        return std::make_shared<Model>(cpu_backend<T>(), Grid{std::move(grid)}, kernels,
                                       exclude_self);
      }))
      .def_property_readonly("nbytes", &Model::num_bytes)
      .def_property_readonly("lattices",
                             [](const Model& self) {
                               py::list list;
                               for (const auto& kernel : self.kernels())
                                 list.append(py::make_tuple(
                                     kernel.lattice->num_points(), kernel.lattice->num_vertices(),
                                     kernel.lattice->dim(), kernel.lattice->num_bytes()));
                               return list;
                             })
      .def("energy_terms", &energies<T>);

  py::class_<Field, std::shared_ptr<Field>>(module, ("MeanField" + suffix).c_str())
      .def(py::init([](std::shared_ptr<Model> model, const CompatibilityList<T>& list,
                       const Array<T>& unary, bool keeps_marginals) {
        const NodeView<const T> view = view_channels_first(unary);
        const auto compatibility = compatibility_from(list);
        const GilReleased released;
        return std::make_shared<Field>(std::move(model), compatibility, view, keeps_marginals);
      }))
      .def("run", &run<T>)
      .def("update",
           [](Field& self, bool wants_change) {
             const GilReleased released;
             return self.update(wants_change);
           })
      .def("store",
           [](const Field& self, Array<T> out) {
             const NodeView<T> view = view_channels_first_writable(out);
             const GilReleased released;
             self.store_marginals(view);
           })
      .def("load", [](Field& self, const Array<T>& marginals) {
        const NodeView<const T> view = view_channels_first(marginals);
        const GilReleased released;
        self.load_marginals(view);
      });
}

}  // namespace

void bind_crf(py::module_& module) {
  module.attr("max_grid_kernel_axes") = cpu_backend<float>().max_grid_kernel_axes();
  bind_precision<float>(module, "F32");
  bind_precision<double>(module, "F64");
}

}  // namespace densefield::bindings
