// The lattice engine for point sets, one class for each precision.
#include "arrays.h"
#include "bind.h"
#include "densefield/crf.h"
#include "devices.h"
#include "gil.h"

namespace densefield::bindings {
namespace {

// out = step(in), both (rows, channels).
template <typename T, typename Step>
void make_table(const Array<T>& in, const Array<T>& out, Step step) {
  const NodeView<const T> from = view_nodes_first(in);
  const NodeView<T> to = view_nodes_first_writable(out);
  const GilReleased released;
  step(from, to);
}

// The gradients by the values, and by the features: those are added to.
template <typename T>
void reverse_filter(const PointLattice<T>& self, const Array<T>& values, const Array<T>& grad_out,
                    const Array<T>& grad_values, const Array<T>& grad_features) {
  const NodeView<const T> from = view_nodes_first(values), grad = view_nodes_first(grad_out);
  const NodeView<T> to_values = view_nodes_first_writable(grad_values);
  const NodeView<T> to_features = view_nodes_first_writable(grad_features);
  const GilReleased released;
  self.reverse(from, grad, to_values, to_features);
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
           [](const Lattice& self, const Array<T>& values, const Array<T>& out) {
             make_table(values, out, [&](auto from, auto to) { self.splat(from, to); });
           })
      .def("blur",
           [](const Lattice& self, const Array<T>& vertices, bool reverse, const Array<T>& out) {
             make_table(vertices, out, [&](auto from, auto to) { self.blur(from, reverse, to); });
           })
      .def("slice",
           [](const Lattice& self, const Array<T>& vertices, const Array<T>& out) {
             make_table(vertices, out, [&](auto from, auto to) { self.slice(from, to); });
           })
      .def("filter",
           [](const Lattice& self, const Array<T>& values, bool transpose, const Array<T>& out) {
             make_table(values, out, [&](auto from, auto to) { self.filter(from, transpose, to); });
           })
      // To the host.
      .def("diagonal",
           [](const Lattice& self) {
             py::array_t<T> out(self.lattice().num_points());
             T* const data = out.mutable_data();
             const GilReleased released;
             self.diagonal(data);
             return out;
           })
      .def("reverse", &reverse_filter<T>);
}

}  // namespace

void bind_lattice(py::module_& module) {
  bind_point_lattice<float>(module, "PointLatticeF32");
  bind_point_lattice<double>(module, "PointLatticeF64");
}

}  // namespace densefield::bindings
