// The entry to the CUDA library, which is a file of its own and opened on first use. All names
// that it shows are these, in C: it knows no Python, and one serves every interpreter.
#pragma once

// Where a backend comes from. What densefield_cuda_backend returns is a
// densefield::Backend<float> or <double>; so the caller must be of the same build, which it
// knows from densefield_cuda_build.
extern "C" {
#define DF_CUDA_ENTRY __attribute__((visibility("default")))

// Names the build: version and compiler.
DF_CUDA_ENTRY const char* densefield_cuda_build();

// Why no device can be used, in a sentence; nullptr if one can. Lives as long as the library.
DF_CUDA_ENTRY const char* densefield_cuda_problem();

// The name of a device, "" beyond the last.
DF_CUDA_ENTRY const char* densefield_cuda_device_name(int device);

// The backend of a device that works on the caller's stream, or, for nullptr, on one of its own.
// Lives as long as the process. nullptr if densefield_cuda_problem says why.
DF_CUDA_ENTRY void* densefield_cuda_backend(int device, void* stream, int is_double);

// The densefield::DeviceArrays of the same device and stream, or nullptr.
DF_CUDA_ENTRY void* densefield_cuda_arrays(int device, void* stream);

// Makes a device the calling thread's and returns the one before; -1 only asks.
DF_CUDA_ENTRY int densefield_cuda_choose_device(int device);

// The device whose memory a pointer is, -1 for the host's.
DF_CUDA_ENTRY int densefield_cuda_device_of(const void* pointer);
}
