#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include "devices.h"

namespace densefield::bindings {

// Around a call of the core: releases the GIL while it lives. At interpreter exit Python ends a
// daemon thread that asks for the GIL back by unwinding it, which must not happen here: the frames
// above own Python objects that nobody may touch any more. Such a thread sleeps until the process
// is gone.
class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;
  ~GilReleased() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) pause();
    }
  }

 private:
  DeviceKept device_;
  PyThreadState* state_;
};

}  // namespace densefield::bindings
