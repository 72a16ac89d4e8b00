// The lattice engine for point sets, one class for each precision.
#include <algorithm>

#include "arrays.h"
#include "bind.h"
#include "densefield/crf.h"
#include "devices.h"
#include "gil.h"

namespace densefield::bindings {
namespace {

// out = step(lattice, in) as a new (rows, channels) array.
template <typename T, typename Step>
Array<T> table_from(const Array<T>& in, int64_t rows, Step step) {
  const NodeView<const T> from = view_nodes_first(in);
  Array<T> out = new_table<T>(rows, from.num_channels);
  const NodeView<T> to = view_new_table(out);
  const GilReleased released;
  step(from, to);
  return out;
}

// The gradients by the values and by the features.
template <typename T>
py::tuple reverse(const PointLattice<T>& self, const Array<T>& values, const Array<T>& grad_out) {
  const NodeView<const T> from = view_nodes_first(values), grad = view_nodes_first(grad_out);
  Array<T> grad_values = new_table<T>(from.num_nodes, from.num_channels);
  Array<T> grad_features = new_table<T>(from.num_nodes, self.lattice().dim());
  const NodeView<T> to_values = view_new_table(grad_values);
  const NodeView<T> to_features = view_new_table(grad_features);
  std::fill_n(to_features.data, to_features.num_nodes * to_features.num_channels, T(0));
  {
    const GilReleased released;
    self.reverse(from, grad, to_values, to_features);
  }
  return py::make_tuple(grad_values, grad_features);
}

template <typename T>
void bind_point_lattice(py::module_& module, const char* name) {
  using Lattice = PointLattice<T>;
  py::class_<Lattice, std::shared_ptr<Lattice>>(module, name)
      .def(py::init([](const Array<T>& features) {
             const NodeView<const T> view = view_nodes_first(features);
             const GilReleased released;
             return std::make_shared<Lattice>(current_backend<T>(), view);
           }),
           py::arg("features"))
      .def_property_readonly("num_points",
                             [](const Lattice& self) { return self.lattice().num_points(); })
      .def_property_readonly("num_vertices",
                             [](const Lattice& self) { return self.lattice().num_vertices(); })
      .def_property_readonly("dim", [](const Lattice& self) { return self.lattice().dim(); })
      .def_property_readonly("nbytes",
                             [](const Lattice& self) { return self.lattice().num_bytes(); })
      .def("splat",
           [](const Lattice& self, const Array<T>& values) {
             return table_from(values, self.lattice().num_vertices(),
                               [&](auto from, auto to) { self.splat(from, to); });
           })
      .def("blur",
           [](const Lattice& self, const Array<T>& vertices, bool reverse) {
             return table_from(vertices, self.lattice().num_vertices(),
                               [&](auto from, auto to) { self.blur(from, reverse, to); });
           })
      .def("slice",
           [](const Lattice& self, const Array<T>& vertices) {
             return table_from(vertices, self.lattice().num_points(),
                               [&](auto from, auto to) { self.slice(from, to); });
           })
      .def("filter",
           [](const Lattice& self, const Array<T>& values, bool transpose) {
             return table_from(values, self.lattice().num_points(),
                               [&](auto from, auto to) { self.filter(from, transpose, to); });
           })
      .def("diagonal",
           [](const Lattice& self) {
             Array<T> out(self.lattice().num_points());
             T* data = out.mutable_data();
             const GilReleased released;
             self.diagonal(data);
             return out;
           })
      .def("reverse", &reverse<T>);
}

}  // namespace

void bind_lattice(py::module_& module) {
  bind_point_lattice<float>(module, "PointLatticeF32");
  bind_point_lattice<double>(module, "PointLatticeF64");
}

}  // namespace densefield::bindings
