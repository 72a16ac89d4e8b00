// The device's table of window weights.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "../cpp/core/portable.h"
#include "../cpp/plan/window_geometry.h"
#include "densefield/backend.h"
#include "memory.cuh"
#include "update_scratch.cuh"

namespace densefield::cuda {

// One neighbour of a cell.
struct WindowTap {
  int32_t dz, dy, dx;
  int64_t distance;  // of its row in memory
};

// Extents for kernels: (z, y, x).
struct WindowExtent {
  int64_t z, y, x;

  DF_HD int64_t count() const { return z * y * x; }
};
inline WindowExtent extent_of(const Place& place) { return {place[0], place[1], place[2]}; }

// Weights tap by tap, [taps, cells], so that neighbouring threads read neighbouring weights; 0
// where the neighbour lies outside the grid. All taps are stored: half of them would do for a
// symmetric kernel, but the other half would be read at the neighbours, twice from memory.
template <typename T>
class CudaWindowTable final : public WindowTable<T> {
 public:
  CudaWindowTable(DeviceMemory& memory, const CellGrid& grid, WindowShape shape,
                  int64_t filter_size, bool symmetric);

  int64_t num_taps() const override { return geometry.num_taps; }
  int64_t num_bytes() const override {
    return weights.num_bytes() + pre.num_bytes() + post.num_bytes() + taps.num_bytes() +
           spans.num_bytes();
  }
  int64_t margin() const override { return 0; }  // kernels look where the grid ends

  int64_t num_nodes() const { return cells.fine[0] * cells.fine[1] * cells.fine[2]; }
  int64_t num_cells() const { return geometry.num_nodes(); }

  const CellGrid cells;
  const WindowGeometry geometry;  // of the grid of cells
  const bool is_symmetric;        // of the weights, without `pre` and `post`
  Buffer<WindowTap> taps;         // [taps]
  Buffer<WindowRowSpan> spans;    // geometry.spans
  Buffer<T> weights;              // [taps, cells]
  Buffer<T> pre;                  // [N] scales at the nodes; empty where the weights have them
  Buffer<T> post;                 // [N]
};

template <typename T>
const CudaWindowTable<T>& as_cuda(const WindowTable<T>& table) {
  return static_cast<const CudaWindowTable<T>&>(table);
}

// window_build.cu. O(cells taps d), twice for normalised kernels.
template <typename T>
std::shared_ptr<const CudaWindowTable<T>> make_window_table(DeviceMemory&, const Grid&,
                                                            const WindowOptions&,
                                                            std::span<const WindowTerm<T>>);
// window_apply.cu
template <typename T>
CellRows<T> make_cell_rows(DeviceMemory&, const CudaWindowTable<T>&, int64_t num_channels);
template <typename T>
void apply_window(DeviceMemory&, const CudaWindowTable<T>&,
                  const T* rows,  // [N, C]
                  int64_t num_channels, bool transpose,
                  CellRows<T>& cells,  // spoiled
                  T* out);             // [N, C] out
// The weights alone, between cells.
template <typename T>
void pass_messages(DeviceMemory&, const CudaWindowTable<T>&,
                   const T* rows,  // [cells, C]
                   int64_t num_channels, bool transpose,
                   T* out);  // [cells, C] out
// With or without the scales that stay at the nodes.
template <typename T>
void window_diagonal(DeviceMemory&, const CudaWindowTable<T>&, bool has_scales,
                     T* out);  // [N] out

// window_pass.cu
template <typename T>
T window_pass(DeviceMemory&, const WindowPass<T>&);

// window_resample.cu: between nodes and cells, maths §5. Scales are [N] or nullptr.
template <typename T>
void pool(DeviceMemory&, const CellGrid&,
          const T* nodes,  // [N, C]
          const T* scale, int64_t num_channels,
          T* cells);  // [cells, C] out
template <typename T>
void pool_transpose(DeviceMemory&, const CellGrid&,
                    const T* cells,  // [cells, C]
                    const T* scale, int64_t num_channels,
                    T* nodes);  // [N, C] out, times scale
template <typename T>
void upsample(DeviceMemory&, const CellGrid&,
              const T* cells,  // [cells, C]
              const T* scale, int64_t num_channels,
              T* nodes);  // [N, C] out, times scale
template <typename T>
void upsample_transpose(DeviceMemory&, const CellGrid&,
                        const T* nodes,  // [N, C]
                        const T* scale, int64_t num_channels,
                        T* cells);  // [cells, C] out

}  // namespace densefield::cuda
