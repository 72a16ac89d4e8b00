// Nodes on the device: in the order of the grid. Rows are as long as they have channels.
#pragma once

#include <memory>
#include <utility>

#include "densefield/lattice.h"
#include "memory.cuh"

namespace densefield::cuda {

class CudaLayout final : public NodeLayout {
 public:
  explicit CudaLayout(Grid grid) : grid_(std::move(grid)), num_nodes_(grid_.num_nodes()) {}

  int64_t num_nodes() const override { return num_nodes_; }
  const Grid& grid() const { return grid_; }

 private:
  Grid grid_;
  int64_t num_nodes_;
};

inline const CudaLayout& as_cuda(const NodeLayout& layout) {
  return static_cast<const CudaLayout&>(layout);
}

// Throws Error (memory) where not even the tables of a lattice would fit the device.
std::shared_ptr<const CudaLayout> make_layout(const DeviceMemory&, const Grid& grid, int max_dim);

// Between the caller's array, on the host or on the device, and rows on the device. Reads and
// writes every value once; limited by memory.
template <typename T>
void load_rows(DeviceMemory& memory, NodeView<const T> from,
               T* rows);  // [nodes, channels] out
template <typename T>
void store_rows(DeviceMemory& memory,
                const T* rows,  // [nodes, channels]
                NodeView<T> to);

}  // namespace densefield::cuda
