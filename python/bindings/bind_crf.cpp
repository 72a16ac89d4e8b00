// CRF models and mean field, one class of each for each precision.
#include "bind.h"
#include "core/embed.h"
#include "devices.h"
#include "field.h"

namespace densefield::bindings {
namespace {

template <typename T>
KernelSpec<T> make_kernel(std::vector<T> sigma_position, const Array<T>& values,
                          std::vector<T> sigma_value, const std::string& normalization,
                          std::vector<T> grid_sigma) {
  return {{std::move(sigma_position), view_channels_first(values), std::move(sigma_value)},
          normalization_from(normalization),
          std::move(grid_sigma)};
}

template <typename T>
void bind_crf_types(py::module_& module, const std::string& suffix) {
  using Model = CrfModel<T>;
  py::class_<KernelSpec<T>>(module, ("KernelSpec" + suffix).c_str())
      .def(py::init(&make_kernel<T>), py::keep_alive<1, 3>());

  py::class_<Model, std::shared_ptr<Model>>(module, ("CrfModel" + suffix).c_str())
      .def(py::init([](std::vector<int64_t> grid, const std::vector<KernelSpec<T>>& kernels,
                       bool exclude_self) {
        const GilReleased released;
        return std::make_shared<Model>(current_backend<T>(), Grid{std::move(grid)}, kernels,
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
      .def("energy_terms", &energies<T, Model>);

  bind_field<T, Field<T>, Model, bool, bool, bool>(module, "MeanField" + suffix,
                                                   &make_mean_field<T>);
}

}  // namespace

void bind_crf(py::module_& module) {
  module.attr("max_dim") = kMaxDim;
  module.attr("max_grid_kernel_axes") = cpu_backend<float>().max_grid_kernel_axes();
  bind_crf_types<float>(module, "F32");
  bind_crf_types<double>(module, "F64");
}

}  // namespace densefield::bindings
