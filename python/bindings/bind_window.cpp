// Window kernels and ConvCRF models, one class of each for each precision.
#include "bind.h"
#include "densefield/conv_crf_grad.h"
#include "devices.h"
#include "field.h"

namespace densefield::bindings {
namespace {

WindowOptions options_from(const std::string& shape, int64_t filter_size, int64_t cell_size,
                           std::vector<int64_t> phase, bool is_batch) {
  return {shape == "diamond" ? WindowShape::diamond : WindowShape::square, filter_size, cell_size,
          std::move(phase), is_batch};
}

template <typename T>
void bind_window_types(py::module_& module, const std::string& suffix) {
  using Model = ConvModel<T>;
  py::class_<WindowTerm<T>>(module, ("WindowTerm" + suffix).c_str())
      .def(py::init([](std::vector<T> sigma_position, const Array<T>& values,
                       std::vector<T> sigma_value, const std::string& normalization, T weight) {
             return WindowTerm<T>{
                 {std::move(sigma_position), view_channels_first(values), std::move(sigma_value)},
                 weight,
                 normalization_from(normalization)};
           }),
           py::keep_alive<1, 3>());

  py::class_<Model, std::shared_ptr<Model>>(module, ("ConvModel" + suffix).c_str())
      .def(py::init([](std::vector<int64_t> grid, const std::string& shape, int64_t filter_size,
                       int64_t cell_size, std::vector<int64_t> phase, bool is_batch,
                       const std::vector<std::vector<WindowTerm<T>>>& groups, bool exclude_self) {
        const WindowOptions options =
            options_from(shape, filter_size, cell_size, std::move(phase), is_batch);
        const GilReleased released;
        return std::make_shared<Model>(current_backend<T>(), Grid{std::move(grid)}, options, groups,
                                       exclude_self);
      }))
      .def_property_readonly("nbytes", &Model::num_bytes)
      .def_property_readonly("num_taps",
                             [](const Model& self) {
                               std::vector<int64_t> taps;
                               for (const auto& table : self.tables())
                                 taps.push_back(table->num_taps());
                               return taps;
                             })
      .def("apply",
           [](const Model& self, size_t group, const Array<T>& in, bool transpose,
              const Array<T>& out) {
             const NodeView<const T> from = view_channels_first(in);
             const NodeView<T> to = view_channels_first_writable(out);
             const GilReleased released;
             self.apply(group, from, transpose, to);
           })
      // To the host.
      .def("diagonal",
           [](const Model& self, size_t group, const Array<T>& out) {
             const NodeView<T> to = view_channels_first_writable(out);
             const GilReleased released;
             const Buffer<T> diagonal = self.diagonal(group);
             std::vector<T> values(static_cast<size_t>(diagonal.size()));
             self.backend().download(diagonal.data(), diagonal.size(), values.data());
             for (int64_t i = 0; i < to.num_nodes; ++i)
               to.at(0, i) = values[static_cast<size_t>(i)];
           })
      // Gradients of sum(grad_out . K~ in): by in and by the features of the group's one term,
      // which is added to. Returns those by its standard deviations.
      .def("reverse",
           [](const Model& self, size_t group, const Array<T>& in, const Array<T>& grad_out,
              const Array<T>& grad_in, const WindowTerm<T>& term, const Array<T>& grad_values) {
             const NodeView<const T> from = view_channels_first(in);
             const NodeView<const T> upstream = view_channels_first(grad_out);
             const NodeView<T> to = view_channels_first_writable(grad_in);
             std::vector<ConvTermGradient<T>> terms(1);
             terms[0].term = &term;
             terms[0].values = view_channels_first_writable(grad_values);
             const GilReleased released;
             reverse_apply(self, group, from, upstream, to, terms);
             return terms[0].sigma;
           })
      .def("energy_terms", &energies<T, Model>);

  bind_field<T, ConvField<T>, Model, bool, bool>(
      module, "ConvField" + suffix, [](auto&&... arguments) {
        return std::make_shared<ConvField<T>>(std::forward<decltype(arguments)>(arguments)...);
      });
}

}  // namespace

void bind_window(py::module_& module) {
  bind_window_types<float>(module, "F32");
  bind_window_types<double>(module, "F64");
}

}  // namespace densefield::bindings
