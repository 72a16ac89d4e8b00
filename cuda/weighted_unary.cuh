// The published options of ConvCRF, maths §5: a unary that is normalised and weighted. Arrays are
// channels first and on the device; those of results are contiguous, [C, N].
#pragma once

#include <span>

#include "densefield/view.h"
#include "memory.cuh"

namespace densefield::cuda {

template <typename T>
void weight_unary(DeviceMemory& memory, NodeView<const T> unary,
                  std::span<const double> weight,  // [C]
                  T* log_p,                        // [C, N] out
                  T* weighted,                     // [C, N] out
                  T* start);                       // [C, N] out: p; or nullptr

// Waits for grad_weight.
template <typename T>
void weighted_unary_gradient(DeviceMemory& memory,
                             const T* log_p,                  // [C, N]
                             std::span<const double> weight,  // [C]
                             bool starts_from_log,
                             const T* grad_weighted,  // [C, N]
                             const T* grad_start,     // [C, N]
                             NodeView<T> grad_unary,  // out; its shape alone, if data is nullptr
                             double* grad_weight);    // [C] out, on the host

}  // namespace densefield::cuda
