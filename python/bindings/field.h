// What the classes of all models share: compatibilities, and inferences in progress.
#pragma once

#include <pybind11/stl.h>

#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.h"
#include "densefield/crf.h"
#include "densefield/error.h"
#include "gil.h"

namespace densefield::bindings {

// Only called with the values that densefield/kernels.py produces.
inline Normalization normalization_from(const std::string& name) {
  if (name == "none") return Normalization::none;
  if (name == "before") return Normalization::before;
  if (name == "after") return Normalization::after;
  if (name == "symmetric") return Normalization::symmetric;
  fail_value("unknown normalization '" + name + "'");
}

inline CompatibilityForm form_from(const std::string& name) {
  if (name == "scalar") return CompatibilityForm::scalar;
  if (name == "vector") return CompatibilityForm::vector;
  if (name == "matrix") return CompatibilityForm::matrix;
  fail_value("unknown compatibility form '" + name + "'");
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
inline void check_signals() {
  py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// destination: makes the (C, N) array for the result.
template <typename T>
int run(Field<T>& field, int iterations, double tolerance, const py::object& callback,
        const std::function<Array<T>()>& destination) {
  InferenceOptions<T> options;
  options.iterations = iterations;
  options.tolerance = tolerance;
  options.interrupt = check_signals;
  if (!callback.is_none())
    options.after_update = [&](Field<T>&) {
      const py::gil_scoped_acquire acquire;
      return !callback().cast<bool>();
    };
  const ResultPlace<T> place = [&] {
    const py::gil_scoped_acquire acquire;
    return view_channels_first_writable(destination());
  };
  const GilReleased released;
  return run_inference(field, options, place);
}

template <typename T, typename Model>
py::tuple energies(const Model& model, const CompatibilityList<T>& list, const Array<T>& unary,
                   const Array<T>& marginals) {
  const NodeView<const T> u = view_channels_first(unary), q = view_channels_first(marginals);
  const auto compatibility = compatibility_from(list);
  EnergyTerms terms;
  {
    const GilReleased released;
    terms = energy_terms(model, compatibility, u, q);
  }
  return py::make_tuple(terms.negative_entropy, terms.unary, terms.pairs, terms.self);
}

// A field F of a model: made from it, the compatibilities, the unary and the field's own flags.
template <typename T, typename F, typename Model, typename... Flags, typename Make>
void bind_field(py::module_& module, const std::string& name, Make make) {
  py::class_<F, std::shared_ptr<F>>(module, name.c_str())
      .def(py::init([make](std::shared_ptr<Model> model, const CompatibilityList<T>& list,
                           const Array<T>& unary, Flags... flags) {
             const NodeView<const T> view = view_channels_first(unary);
             const auto compatibility = compatibility_from(list);
             const GilReleased released;
             return make(std::move(model), compatibility, view, flags...);
           }),
           py::keep_alive<1, 4>())  // the unary: a field may read it where it is
      .def("run",
           [](F& self, int iterations, double tolerance, const py::object& callback,
              const py::function& destination) {
             py::object made;  // kept until the result is in it
             return run<T>(self, iterations, tolerance, callback, [&] {
               made = destination();
               return made.cast<Array<T>>();
             });
           })
      .def("update",
           [](F& self, bool wants_change) {
             const GilReleased released;
             return self.update(wants_change);
           })
      .def("store",
           [](const F& self, const Array<T>& out) {
             const NodeView<T> view = view_channels_first_writable(out);
             const GilReleased released;
             self.store_marginals(view);
           })
      .def("load", [](F& self, const Array<T>& marginals) {
        const NodeView<const T> view = view_channels_first(marginals);
        const GilReleased released;
        self.load_marginals(view);
      });
}

}  // namespace densefield::bindings
