// The inner loops of the window kernel as tables of functions, one per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../core/window.h"
#include "densefield/compatibility_form.h"

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

// One kernel's weights for a grid row, in planes of one tap each.
template <typename T>
struct WindowMergeTerm {
  const T* const* source;  // [num_sources] weight of pixel x in source[s][x]
  const T* const* pre;     // [num_sources] scale of the neighbour of pixel x in pre[s][x]
  const T* post;           // scale of pixel x; nullptr: no scales, `pre` is not read
  T scale;
};

// The weights of several kernels for whole blocks of a grid row, brought into the order in
// which they are used: out = sum of scale * post * weight * pre.
template <typename T>
struct WindowMerge {
  int64_t width;        // pixels of the row
  int64_t num_sources;  // taps whose neighbours exist
  const int64_t* tap;   // [num_sources] the place in a block's weights
  int num_terms;        // 1 or more
  const WindowMergeTerm<T>* terms;
  int64_t num_taps;
  T* out;  // [blocks, num_taps, kWindowBlock]
};

// Products of one row of gradients with a row of neighbours, in planes of one channel each.
// Planes are `pitch` apart, 0 outside the grid, and readable up to whole blocks.
template <typename T>
struct WindowProducts {
  int64_t width;
  int64_t num_channels;
  int64_t num_taps;  // odd
  int64_t pitch;
  const T* gradient;  // [num_channels, pitch] at pixel 0
  const T* values;    // [num_channels, pitch] at the leftmost neighbour of pixel 0
  T* out;             // [num_taps, pitch] at pixel 0, in/out
};

// One tap's part in the gradient by the scales of pixels 0 .. width - 1. Arrays `there` are
// at the neighbour of pixel 0.
template <typename T>
struct WindowScaleTap {
  int64_t width;
  const T* kernel;         // the Gaussian, without scales
  const T* grad;           // by the weight from the neighbour to the pixel
  const T* grad_opposite;  // by the weight from the pixel to the neighbour
  const T* pre_there;
  const T* post_there;
  T* grad_pre;   // at pixel 0, in/out
  T* grad_post;  // at pixel 0, in/out
};

// One tap's part in the gradient by the features.
template <typename T>
struct WindowFeatureTap {
  int64_t width;
  const T* kernel;
  const T* grad;
  const T* grad_opposite;
  const T* pre;
  const T* post;
  const T* pre_there;
  const T* post_there;
  const T* norm;        // gradient by the pixel's sum of weights
  const T* norm_there;  // by the neighbour's
  T scale;              // of the weights
  int num_channels;
  const T* const* here;   // [num_channels] feature planes at pixel 0
  const T* const* there;  // [num_channels] the same at the neighbour
  int64_t feature_pitch;
  T* grad_feature;  // [num_channels, feature_pitch] in/out, times sigma^2
  T* share;         // [width] scratch
  double* sums;     // [1 + num_channels] out: of the shares, and of their squared steps
};

// One table's part in an update backwards; WindowReverseKernel has the meaning.
template <typename T>
struct WindowReversePart {
  const T* filtered;  // [count, stride]
  const T* self;      // [count] or nullptr
  CompatibilityForm form;
  const T* transposed;  // A^T by columns
  T* sums;              // [1 or num_labels, stride] in/out, by A; of a scalar, one per label
};

template <typename T>
struct WindowReverseRows {
  int64_t count;
  int64_t stride;
  int64_t num_labels;
  int num_parts;  // 0: grad_scores holds the gradient by the marginals
  const WindowReversePart<T>* parts;
  bool has_softmax;
  const T* marginals;  // [count, stride]
  T* grad_scores;      // [count, stride] in/out
  T* grad_unary;       // [count, stride] in/out
  T* scratch;          // [2, stride]
};

// to[e] = scale * sum over r of weight[r] * from[r * pitch + e].
template <typename T>
struct WindowRowSum {
  int64_t count;
  int64_t num_rows;
  const T* from;
  int64_t pitch;
  const T* weight;  // [num_rows]; nullptr: 1
  T scale;
  T* to;  // [count]
};

// to[p] = post[p] * ((1 - share) cells[low] + share cells[high]) for rows of `stride`.
template <typename T>
struct WindowInterpolation {
  int64_t count;
  int64_t stride;
  const CellPair<T>* pairs;  // [count]
  const T* cells;
  const T* post;  // [count]; nullptr: 1
  T* to;          // [count, stride]
};

// out = or += A rows: what a compatibility table makes of messages.
template <typename T>
struct WindowTransform {
  CompatibilityForm form;
  const T* table;  // [1], [stride] or, by columns, [num_labels, stride]
  int64_t num_labels;
  int64_t count;
  int64_t stride;
  const T* rows;  // [count, stride], may be `out`
  bool adds;      // never where `rows` is `out`
  T* scratch;     // [stride]
  T* out;
};

template <typename T>
struct WindowKernels {
  // out[x - begin] = sum over the taps of weight * value row, for whole blocks.
  void (*message)(const WindowRow<T>&, int64_t stride, T* out);
  // out[x] = sum of the weights, for whole blocks.
  void (*weight_sums)(int64_t width, int64_t num_sources, const T* const* source, T* out);
  void (*tap_weights)(const WindowTap<T>&);
  void (*merge_weights)(const WindowMerge<T>&);
  void (*transform)(const WindowTransform<T>&);
  void (*sum_rows)(const WindowRowSum<T>&);
  void (*interpolate)(const WindowInterpolation<T>&);
  void (*add_products)(const WindowProducts<T>&);
  void (*add_scale_sums)(const WindowScaleTap<T>&);
  void (*add_feature_sums)(const WindowFeatureTap<T>&);
  void (*reverse_rows)(const WindowReverseRows<T>&);
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
