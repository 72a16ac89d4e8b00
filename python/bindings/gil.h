#pragma once

#include <pybind11/pybind11.h>

namespace densefield::bindings {

// Releases the GIL while it lives. At interpreter exit Python unwinds a daemon thread that
// asks for the GIL back: a noexcept destructor, as py::gil_scoped_release has, would turn
// that into std::terminate.
class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;
  ~GilReleased() noexcept(false) { PyEval_RestoreThread(state_); }

 private:
  PyThreadState* state_;
};

}  // namespace densefield::bindings
