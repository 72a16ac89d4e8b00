// What the updates of one way back work in on the device.
#pragma once

#include "densefield/update_scratch.h"
#include "reverse_steps.cuh"
#include "steps.cuh"
#include "update_scratch.cuh"

namespace densefield::cuda {

template <typename T>
class CudaReverseScratch final : public UpdateScratch<T> {
 public:
  CudaReverseScratch(DeviceMemory& memory, const std::vector<CompatibilityForm>& forms,
                     int64_t num_nodes, int64_t num_labels)
      : sums(memory, forms, num_nodes, num_labels), grad(memory, num_nodes * num_labels) {}

  TableSums sums;  // by the compatibilities of all kernels
  Buffer<T> grad;  // [N, L] by the marginals, where messages make it up
  // Of lattices:
  Buffer<T> filtered;    // [N, L] K~^T grad_scores of one kernel
  Buffer<T> by_values;   // [N, L] as KernelGradients has it; empty where no kernel's is wanted
  Buffer<T> by_message;  // [N, L]
  GridProducts<T> grid;  // empty where no spatial kernel's gradient is wanted
  // Of windows:
  CellRows<T> cells;
};

template <typename T>
CudaReverseScratch<T>& as_reverse(UpdateScratch<T>& scratch) {
  return static_cast<CudaReverseScratch<T>&>(scratch);
}

}  // namespace densefield::cuda
