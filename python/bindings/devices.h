// The devices there are, by name, and which one a new model is to live on.
#pragma once

#include <string>

#include "densefield/backend.h"
#include "densefield/device_arrays.h"

namespace densefield::bindings {

// "cpu"; "cuda" or "cuda:0", "cuda:1", ..; "cuda-emulated" likewise (tests). Opens the library that
// is needed, on first use. Throws Error (value) for another name and Error (runtime) with the
// reason where the device cannot be used.
void set_device(const std::string& name);  // of the process
// Of the calling thread; "": the process's. Returns what was set before.
std::string set_device_here(const std::string& name);
// "cuda" for the first one.
std::string device();

// The stream of the calling thread's new models on a device that is not the CPU; nullptr: the
// library's own. Returns what was set before.
void* set_stream_here(void* stream);

// Why a device cannot be used, or "".
std::string device_problem(const std::string& name);

// What the calling thread's models are made with.
template <typename T>
Backend<T>& current_backend();

// Of a CUDA device; nullptr: the library's own stream.
DeviceArrays& arrays_on(const std::string& device, void* stream);

// The device, with its number, whose memory a pointer is; "" for the host's.
std::string device_of_memory(const void* pointer);

// The device with its number: "cuda:0".
std::string numbered(const std::string& device);

// While it lives, the core may choose CUDA devices; then the thread has its own back.
class DeviceKept {
 public:
  DeviceKept();
  DeviceKept(const DeviceKept&) = delete;
  DeviceKept& operator=(const DeviceKept&) = delete;
  ~DeviceKept();

 private:
  int before_;
};

}  // namespace densefield::bindings
