// The inner loops of the window kernel as tables of functions, one per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace densefield::simd {

// Pixels whose weights lie together: [taps, kWindowBlock].
constexpr int64_t kWindowBlock = 8;

// The neighbours of a pixel on one row of the grid: `num_taps` (odd) pixels in a row.
template <typename T>
struct WindowSegment {
  const T* values;  // row of the leftmost neighbour of pixel 0
  int64_t num_taps;
};

// Pixels [begin, end) of one grid row; `begin` is a multiple of kWindowBlock. Values and
// sources may be read up to the end of the last block: what lies there is finite.
template <typename T>
struct WindowRow {
  int64_t begin;
  int64_t end;
  int num_segments;
  const WindowSegment<T>* segments;
  int64_t num_taps;        // of all segments
  const T* const* source;  // [num_taps] weight of pixel x in source[tap][x]
  T* weights;              // scratch, [num_taps, kWindowBlock]
};

// Weights of one tap for the pixels [begin, end) of a grid row: out += scale * g. Planes may
// be read, and `out` too, up to a vector behind the end.
template <typename T>
struct WindowTap {
  int64_t begin;
  int64_t end;
  int num_channels;
  const T* const* here;    // [num_channels] feature planes at pixel 0
  const T* const* there;   // [num_channels] the same at the neighbour of pixel 0
  const T* inverse_sigma;  // [num_channels]
  T squared;               // what other features, equal for the whole row, add
  T scale;
  T* out;  // in/out, at pixel 0
};

// out += scale * post * weight * pre for the pixels [begin, end) of a grid row, where `pre`
// is at the neighbour of pixel 0.
template <typename T>
struct WindowScale {
  int64_t begin;
  int64_t end;
  const T* weight;
  const T* post;
  const T* pre;
  T scale;
  T* out;  // in/out
};

template <typename T>
struct WindowKernels {
  // out[x - begin] = sum over the taps of weight * value row, for whole blocks.
  void (*message)(const WindowRow<T>&, int64_t stride, T* out);
  // out[x - begin] = sum of the weights, for whole blocks.
  void (*weight_sums)(const WindowRow<T>&, T* out);
  void (*tap_weights)(const WindowTap<T>&);
  void (*scaled_weights)(const WindowScale<T>&);
  // rows[p] = A rows[p] in the form of a compatibility table with vectors (form 1) or
  // columns (form 2); scratch [stride].
  void (*transform)(int form, const T* table, int64_t num_labels, int64_t count, int64_t stride,
                    T* scratch, T* rows);
};

// The table of the level in use, see kernels.h.
template <typename T>
const WindowKernels<T>& window_kernels();

WindowKernels<float> window_float_base();
WindowKernels<double> window_double_base();
#ifdef DF_X86_64
WindowKernels<float> window_float_avx2();
WindowKernels<double> window_double_avx2();
WindowKernels<float> window_float_avx512();
WindowKernels<double> window_double_avx512();
#endif

}  // namespace densefield::simd
