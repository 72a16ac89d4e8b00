#pragma once

#include <pybind11/pybind11.h>

namespace densefield::bindings {

void bind_system(pybind11::module_& module);
void bind_lattice(pybind11::module_& module);
void bind_conv_gradients(pybind11::module_& module);
void bind_device_arrays(pybind11::module_& module);
void bind_device_work(pybind11::module_& module);
void bind_crf(pybind11::module_& module);
void bind_gradients(pybind11::module_& module);
void bind_jax(pybind11::module_& module);
void bind_window(pybind11::module_& module);

}  // namespace densefield::bindings
