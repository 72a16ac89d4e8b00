// Users' arrays on a device.
#pragma once

#include "check.cuh"
#include "densefield/device_arrays.h"

namespace densefield::cuda {

// Of a device and the caller's stream, or, for nullptr, the library's own; kept for ever.
DeviceArrays* arrays_on(int device, cudaStream_t stream);

}  // namespace densefield::cuda
