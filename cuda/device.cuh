// Which devices there are.
#pragma once

#include "check.cuh"

namespace densefield::cuda {

// Why no device can be used, for people; nullptr if one can. Asked once.
const char* device_problem();
// "" beyond the last device.
const char* device_name(int device);
// Makes a device the calling thread's and returns the one before; -1 only asks.
int choose_device(int device);
// A stream of the library's own, made on first use; it does not wait for the default stream.
cudaStream_t own_stream(int device);
// The library's memory pool on a device, made on first use. It keeps what is freed for the next
// inference, up to a limit.
cudaMemPool_t own_pool(int device);

}  // namespace densefield::cuda
