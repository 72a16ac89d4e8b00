// What the updates of one inference work in on the device.
#pragma once

#include <cstddef>

#include "densefield/update_scratch.h"
#include "memory.cuh"

namespace densefield::cuda {

// Rows of cells of several nodes, between which a window passes messages; else empty.
template <typename T>
struct CellRows {
  Buffer<T> values;    // [cells, C]
  Buffer<T> messages;  // [cells, C]
};

template <typename T>
class CudaUpdateScratch final : public UpdateScratch<T> {
 public:
  CudaUpdateScratch(DeviceMemory&, int64_t num_nodes, int64_t num_channels,
                    std::size_t num_kernels);

  Buffer<unsigned long long> change;  // [1], as Update has it
  Buffer<T> scores;     // [N, C] between the launches of one update; empty if there is but one
  Buffer<T> working;    // rows too long for shared memory, as update_kernel has them; else empty
  Buffer<T> marginals;  // [N, C] of lattices' updates where the caller keeps none; else empty
  // Of windows:
  Buffer<T> messages;  // [tables - 1, N, C] of all tables but the first
  CellRows<T> cells;
};

template <typename T>
CudaUpdateScratch<T>& as_cuda(UpdateScratch<T>& scratch) {
  return static_cast<CudaUpdateScratch<T>&>(scratch);
}

}  // namespace densefield::cuda
