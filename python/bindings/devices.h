// The backend of the device that a new model is to live on.
#pragma once

#include <string>

#include "densefield/backend.h"

namespace densefield::bindings {

// "cpu", "cuda" or "cuda-emulated" (tests). Opens the library that is needed, on first use.
// Throws Error (value) for another name and Error (runtime) with the reason where the device
// cannot be used.
void set_device(const std::string& name);  // of the process
// Of the calling thread; "": the process's. Returns what was set before.
std::string set_device_here(const std::string& name);
std::string device();

// Why a device cannot be used, or "".
std::string device_problem(const std::string& name);

// What the calling thread's models are made with.
template <typename T>
Backend<T>& current_backend();

}  // namespace densefield::bindings
