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
  int64_t first_tap;
};

// Pixels [begin, end) of one grid row; `begin` is a multiple of kWindowBlock. Values may be
// read up to the end of the last block: what lies there is finite.
template <typename T>
struct WindowRow {
  int64_t begin;
  int64_t end;
  int num_segments;
  const WindowSegment<T>* segments;
  int64_t num_taps;  // of a pixel, in `weights`
  const T* weights;  // [blocks, num_taps, kWindowBlock], the first block is that of `begin`
};

// Weights g of one tap for the pixels [begin, end) of a grid row. Planes may be read up to a
// vector behind the end.
template <typename T>
struct WindowTap {
  int64_t begin;
  int64_t end;
  int num_channels;
  const T* const* here;    // [num_channels] feature planes at pixel 0
  const T* const* there;   // [num_channels] the same at the neighbour of pixel 0
  const T* inverse_sigma;  // [num_channels]
  T squared;               // what other features, equal for the whole row, add
  T* out;                  // at pixel 0
};

// The weights of one kernel for whole blocks of a grid row, brought from planes of one tap
// each into the order in which they are used: out = or += scale * post * weight * pre.
template <typename T>
struct WindowMerge {
  int64_t width;           // pixels of the row
  int64_t num_sources;     // taps whose neighbours exist
  const int64_t* tap;      // [num_sources] the place in a block's weights
  const T* const* source;  // [num_sources] weight of pixel x in source[s][x]
  const T* const* pre;     // [num_sources] scale of the neighbour of pixel x in pre[s][x]
  const T* post;           // scale of pixel x; nullptr: no scales, `pre` is not read
  T scale;
  bool adds;
  int64_t num_taps;
  T* out;  // [blocks, num_taps, kWindowBlock]
};

template <typename T>
struct WindowKernels {
  // out[x - begin] = sum over the taps of weight * value row, for whole blocks.
  void (*message)(const WindowRow<T>&, int64_t stride, T* out);
  // out[x] = sum of the weights, for whole blocks.
  void (*weight_sums)(const WindowMerge<T>&, T* out);
  void (*tap_weights)(const WindowTap<T>&);
  void (*merge_weights)(const WindowMerge<T>&);
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
