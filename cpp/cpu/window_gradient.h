// The gradient by the weights of a window table on the CPU. Contracts: backend.h.
#pragma once

#include "densefield/window_reverse.h"
#include "window_table.h"

namespace densefield::cpu {

// Rows of the grid in planes with zeros before and behind, so that neighbours along the row
// are there for every pixel.
struct PlaneLayout {
  explicit PlaneLayout(const WindowGeometry& geometry)
      : lead(whole_blocks(geometry.radius)),
        pitch(lead + whole_blocks(whole_blocks(geometry.extent[2]) + geometry.radius)) {}
  int64_t lead;
  int64_t pitch;
};

template <typename T>
class CpuWindowGradient final : public WindowGradient<T> {
 public:
  explicit CpuWindowGradient(const CpuWindowTable<T>& table);

  // By the weight of one tap, at pixel 0 of a row of cells.
  T* row(int64_t index, int64_t tap) {
    return weights.data() + (index * num_taps + tap) * layout.pitch + layout.lead;
  }
  const T* row(int64_t index, int64_t tap) const {
    return const_cast<CpuWindowGradient*>(this)->row(index, tap);
  }

  PlaneLayout layout;
  int64_t num_taps;
  Buffer<T> weights;  // [rows, num_taps, pitch]
  // Between cells of several nodes alone:
  Buffer<T> pre;   // [N] by the table's scales; empty where it has none
  Buffer<T> post;  // [N]
  Buffer<T> self;  // [N] by the diagonal; empty until one is left out
  // What every update fills again: [rows, channels, pitch].
  Buffer<T> value_planes;
  Buffer<T> gradient_planes;
};

template <typename T>
CpuWindowGradient<T>& as_cpu(WindowGradient<T>& gradient) {
  return static_cast<CpuWindowGradient<T>&>(gradient);
}
template <typename T>
const CpuWindowGradient<T>& as_cpu(const WindowGradient<T>& gradient) {
  return static_cast<const CpuWindowGradient<T>&>(gradient);
}

// window_gradient.cpp
template <typename T>
void add_window_gradient(const CpuWindowTable<T>&, const T* rows, const T* grad_scores,
                         const CompatibilityTable<T>* transposed_compatibility,
                         int64_t num_channels, bool excludes_self, CpuWindowGradient<T>&);
// Brings `self` to the weights and scales, and leaves it empty.
template <typename T>
void fold_diagonal(const CpuWindowTable<T>&, CpuWindowGradient<T>&);

// window_term_gradient.cpp
template <typename T>
void window_term_gradients(const CpuWindowTable<T>&, CpuWindowGradient<T>&,
                           std::span<const WindowTermGradient<T>>);

// window_reverse.cpp
template <typename T>
void window_reverse_pass(const WindowReversePass<T>&);

}  // namespace densefield::cpu
