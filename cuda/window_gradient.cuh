// The gradient by the weights of a window table on the device. Contracts: backend.h.
#pragma once

#include <memory>
#include <span>

#include "densefield/window_reverse.h"
#include "window_table.cuh"

namespace densefield::cuda {

// Taps that a block of threads takes together: rows dy, dy + 1, .. of plane dz, and in each of
// them the columns dx, dx + 1, .. that lie in the row's span.
struct TapGroup {
  int32_t dz, dy, dx;
  int32_t first_span, num_spans;
};

// How the taps of a window are dealt out.
struct TapGroups {
  explicit TapGroups(const WindowGeometry& geometry);

  int rows;     // of a group: 3, 5 or 7, for each of which there is a kernel
  int columns;  // of a group, one for each thread along y
  std::vector<TapGroup> list;
};

template <typename T>
class CudaWindowGradient final : public WindowGradient<T> {
 public:
  CudaWindowGradient(DeviceMemory& memory, const CudaWindowTable<T>& table, int64_t num_channels,
                     bool excludes_self);

  const TapGroups shape;
  Buffer<TapGroup> groups;  // shape.list
  Buffer<T> weights;        // [taps, cells]
  // Between cells of several nodes alone:
  Buffer<T> pre;   // [N] by the table's scales; empty where it has none
  Buffer<T> post;  // [N]
  Buffer<T> self;  // [N] by the diagonal, if it is left out
  // What every update fills again.
  Buffer<T> message_gradients;  // [N, C]
  // Between cells of several nodes alone:
  Buffer<T> means, sums;  // [cells, C]
  Buffer<T> messages;     // [cells, C]; empty where the table has no scales
  Buffer<T> nodes;        // [N, C]; empty where the table has no scales
};

template <typename T>
CudaWindowGradient<T>& as_cuda(WindowGradient<T>& gradient) {
  return static_cast<CudaWindowGradient<T>&>(gradient);
}

// window_products.cu: weights[tap, i] += factor * gradients_i . values at i's neighbour.
template <typename T>
void add_products(DeviceMemory&, const CudaWindowTable<T>&,
                  const T* gradients,  // [cells, C]
                  const T* values,     // [cells, C]
                  int64_t num_channels, T factor, CudaWindowGradient<T>&);

// window_gradient.cu. O(cells taps C); nothing waits for the device.
template <typename T>
void add_window_gradient(DeviceMemory&, const CudaWindowTable<T>&,
                         const T* rows,         // [N, C]
                         const T* grad_scores,  // [N, C]
                         const CompatibilityTable<T>* transposed_compatibility,
                         int64_t num_channels, bool excludes_self, CudaWindowGradient<T>&);
// Brings `self` to the weights and scales, and leaves it empty.
template <typename T>
void fold_diagonal(DeviceMemory&, const CudaWindowTable<T>&, CudaWindowGradient<T>&);

// window_term_gradient.cu. O(cells taps d); waits for the sums of every term.
template <typename T>
void window_term_gradients(DeviceMemory&, const CudaWindowTable<T>&, CudaWindowGradient<T>&,
                           std::span<const WindowTermGradient<T>>);

// window_reverse.cu. Waits for the gradients by compatibilities.
template <typename T>
void window_reverse_pass(DeviceMemory&, const WindowReversePass<T>&);
template <typename T>
std::unique_ptr<UpdateScratch<T>> make_window_reverse_scratch(
    DeviceMemory&, int64_t num_nodes, int64_t num_labels, std::span<const WindowReverseKernel<T>>);

}  // namespace densefield::cuda
