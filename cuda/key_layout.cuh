// The range of the features, by which keys are laid out: cpp/plan/key_layout.h.
#pragma once

#include "../cpp/plan/key_layout.h"
#include "layout.cuh"

namespace densefield::cuda {

// As cpu::make_key_layout, for values on the device. Waits for it.
template <typename T>
KeyLayout make_key_layout(DeviceMemory& memory, const CudaLayout& layout,
                          const Features<T>& features);

}  // namespace densefield::cuda
