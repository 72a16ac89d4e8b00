// Events that times are taken with, and work of a stream recorded as a CUDA graph.
#pragma once

#include <memory>

#include "densefield/device_arrays.h"
#include "memory.cuh"

namespace densefield::cuda {

std::unique_ptr<DeviceEvent> record_event(const Queue& queue);

// Recording forbids what waits for the stream, and copies from and to the host's memory.
void begin_recording(const Queue& queue);
std::unique_ptr<DeviceGraph> end_recording(const Queue& queue);

}  // namespace densefield::cuda
