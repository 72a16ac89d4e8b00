// The private module densefield._densefield: thin bindings, no maths and no defaults.
#include "bind.h"
#include "densefield/error.h"

namespace py = pybind11;
using densefield::Error;

PYBIND11_MODULE(_densefield, module, py::mod_gil_not_used()) {
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const std::bad_alloc&) {
      PyErr_SetString(PyExc_MemoryError, "not enough memory for the tables; split the input");
    } catch (const Error& error) {
      switch (error.kind()) {
        case Error::Kind::type: return PyErr_SetString(PyExc_TypeError, error.what());
        case Error::Kind::value: return PyErr_SetString(PyExc_ValueError, error.what());
        case Error::Kind::memory: return PyErr_SetString(PyExc_MemoryError, error.what());
        default: return PyErr_SetString(PyExc_RuntimeError, error.what());
      }
    }
  });
  densefield::bindings::bind_system(module);
  densefield::bindings::bind_device_arrays(module);
  densefield::bindings::bind_device_work(module);
  densefield::bindings::bind_lattice(module);
  densefield::bindings::bind_crf(module);
  densefield::bindings::bind_gradients(module);
  densefield::bindings::bind_window(module);
  densefield::bindings::bind_conv_gradients(module);
  densefield::bindings::bind_jax(module);
}
