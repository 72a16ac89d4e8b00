// Embedding of all points, maths §4 steps 1-3. Compiled without fused multiply-add: a point must
// land in the same simplex as on the CPU.
#pragma once

#include <cstdint>

#include "densefield/lattice.h"
#include "layout.cuh"

namespace densefield::cuda {

// E is the type of the embedding; T that of features and weights.
template <typename T, typename E>
void embed_points(DeviceMemory& memory, const CudaLayout& layout,
                  const Features<T>& features,  // values on the device
                  T* weight,                    // [N, d+1] out
                  int32_t* cell,                // [N, d+1] out
                  uint8_t* rank);               // [N, d+1] out

}  // namespace densefield::cuda
